"""A link between this machine's network and one of its own, which can swallow all packets."""

# Nothing outside of the namespace is touched, but for one device that appears and goes.

import subprocess
from typing import Final, Self

__all__ = ["Link"]

RULES: Final = """
table netdev link {{
  chain in {{
    type filter hook ingress device "{device}" priority 0; policy accept;
  }}
  chain out {{
    type filter hook egress device "{device}" priority 0; policy accept;
  }}
}}
"""
POLICY: Final = (
    "chain netdev link in {{ policy {verdict}; }}\nchain netdev link out {{ policy {verdict}; }}\n"
)


class Link:
    """
    A network namespace, and a pair of virtual devices that leads into it. Needs root: needs_namespaces().

    What is started with `prefix` before its command has that network, and is reached at `host`.
    """

    def __init__(self) -> None:
        # The namespace lives as long as this process, which ends as soon as its input does.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        pid = self._holder.pid
        # Of the addresses for tests of networks (RFC 2544); process ids keep links in parallel apart.
        network = f"198.{18 + pid // 16384 % 2}.{pid // 64 % 256}.{pid % 64 * 4}"
        first, _, last = network.rpartition(".")
        self.host = f"{first}.{int(last) + 2}"
        self.prefix = ["nsenter", f"--net=/proc/{pid}/ns/net"]
        self._device = here = f"pp{pid}a"
        there = f"pp{pid}b"
        try:
            _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", str(pid))
            _run("ip", "address", "add", f"{first}.{int(last) + 1}/30", "dev", here)
            _run("ip", "link", "set", here, "up")
            _run(*self.prefix, "ip", "address", "add", f"{self.host}/30", "dev", there)
            _run(*self.prefix, "ip", "link", "set", there, "up")
            self._rule(RULES.format(device=there))
        except BaseException:
            self.close()
            raise

    def silence(self) -> None:
        """Swallow every packet, both ways, from now on."""
        self._rule(POLICY.format(verdict="drop"))

    def heal(self) -> None:
        """Pass everything on again."""
        self._rule(POLICY.format(verdict="accept"))

    def _rule(self, rules: str) -> None:
        _run(*self.prefix, "nft", "-f", "-", stdin=rules)

    def close(self) -> None:
        """Remove the namespace and the devices. Whoever has that network has ended. May be called twice."""
        # The devices would go with the namespace, but connections that nobody answers keep that for minutes.
        subprocess.run(["ip", "link", "delete", self._device], capture_output=True)
        self._holder.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _run(*command: str, stdin: str = "") -> None:
    ended = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=20)
    if ended.returncode != 0:
        raise OSError(f"{' '.join(command)}: {ended.stderr.strip()}")
