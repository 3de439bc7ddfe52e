// Clients that fall silent are disconnected. Those that answer pings stay.
import assert from "node:assert/strict";
import { WebSocket, connect, newest, oldest, once, pause, run, url } from "./client.mjs";

const engine = (query) => `${url}/socket.io/?EIO=4&${query}`;
const closed = (socket) => new Promise((resolve) => socket.once("close", (code) => resolve(code)));
const next = (socket) => new Promise((resolve) => socket.once("message", (data) => resolve(String(data))));

await run(async () => {
  const alive = [];
  for (const io of [newest, oldest]) {
    for (const transports of [["polling"], ["websocket"]]) {
      const socket = connect(io, { transports, reconnection: false });
      await once(socket, "welcome");
      alive.push(socket);
    }
  }

  // One over a WebSocket that does not answer pings.
  const mute = new WebSocket(engine("transport=websocket").replace("http", "ws"));
  assert.match(await next(mute), /^0{/);
  mute.send("40");
  assert.match(await next(mute), /^40{/);
  assert.equal(await closed(mute), 1000);

  // One that polls once and never again.
  const open = await (await fetch(engine("transport=polling"))).text();
  const { sid } = JSON.parse(open.slice(1));
  const post = await fetch(engine(`transport=polling&sid=${sid}`), { method: "POST", body: "40" });
  assert.equal(await post.text(), "ok");
  // Its place is free after the interval of a second and the time-out of eight.
  for (let waited = 0; ; waited += 100) {
    const answer = await fetch(engine(`transport=polling&sid=${sid}`), { method: "PUT" });
    const { code } = await answer.json();
    if (code === 1) break;
    assert.equal(code, 3);
    assert(waited < 30_000, "the session is never given up");
    await pause(100);
  }

  assert(alive.every((socket) => socket.connected));
  alive.forEach((socket) => socket.disconnect());
});
