"""A consumer that acknowledges, with nothing but the standard library: it answers how many lines it has."""

import socketserver


class Consumer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for count, line in enumerate(self.rfile, start=1):
            print(line.decode().rstrip("\n"), flush=True)  # whatever is to be done with it comes first
            self.wfile.write(b"%d\n" % count)


socketserver.ThreadingTCPServer.allow_reuse_address = True
with socketserver.ThreadingTCPServer(("127.0.0.1", 9000), Consumer) as server:
    server.serve_forever()
