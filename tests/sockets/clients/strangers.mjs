// Connections that never say who they are: they are bounded for each address, and have a deadline.
import assert from "node:assert/strict";
import { WebSocket, listen, run, say, url } from "./client.mjs";

const ALLOWED = Number(process.env.ALLOWED);
const port = new URL(url).port;

// Opens a connection and says nothing. Returns its socket, or the status of the refusal.
function open(path, localAddress) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { localAddress, perMessageDeflate: false });
    socket.on("error", reject);
    socket.on("unexpected-response", (request, response) => {
      response.resume();
      resolve(response.statusCode);
    });
    socket.on("open", () => resolve(socket));
  });
}

const closed = (socket) => new Promise((resolve) => socket.once("close", (code, text) => resolve([code, String(text)])));

await run(async () => {
  const socketio = "/socket.io/?EIO=4&transport=websocket";
  const native = "/v1/streams/inventory/socket";
  const strangers = [];
  while (strangers.length < ALLOWED) {
    strangers.push(...(await Promise.all(Array.from({ length: Math.min(64, ALLOWED - strangers.length) }, (_, n) => open(n % 2 ? socketio : native)))));
  }
  assert(strangers.every((stranger) => typeof stranger === "object"));
  assert.equal(await open(socketio), 503);
  assert.equal(await open(native), 503);
  const polling = await fetch(`${url.replace("localhost", "127.0.0.1")}/socket.io/?EIO=4&transport=polling`);
  assert.equal(polling.status, 503);
  assert.equal(polling.headers.get("retry-after"), "1");
  // Another address has places of its own.
  const other = await open(socketio, "127.0.0.2");
  assert.equal(typeof other, "object");
  other.close();
  const ends = await Promise.all(strangers.map(closed));
  assert(ends.every(([code]) => code === 1008), JSON.stringify(ends.slice(0, 5)));
  assert(ends.some(([, text]) => text === "the client did not show a key in time"));
  assert(ends.some(([, text]) => text === "the client did not connect to a namespace in time"));
  const next = await open(socketio);
  assert.equal(typeof next, "object");
});
