/*
 * A relay for websockets with the library `ws` for node: one send per message and consumer.
 *
 *   with_ws.js HOST:PORT...       prints "listen ws://127.0.0.1:PORT" on stderr
 */
'use strict';

const { WebSocket, WebSocketServer } = require('ws');

const consumers = process.argv.slice(2).map(
  (address) => new WebSocket(`ws://${address}`, { perMessageDeflate: false }),
);
let connecting = consumers.length;

function listen() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 }, () => {
    console.error(`listen ws://127.0.0.1:${server.address().port}`);
  });
  server.on('connection', (producer) => {
    producer.on('message', (message, binary) => {
      for (const consumer of consumers) consumer.send(message, { binary });
    });
  });
}

for (const consumer of consumers) {
  consumer.on('open', () => {
    connecting -= 1;
    if (connecting === 0) listen();
  });
}
