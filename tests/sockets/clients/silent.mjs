// Clients that fall silent: they are disconnected, and their places become free.
import assert from "node:assert/strict";
import { WebSocket, connect, newest, once, run, say, url } from "./client.mjs";

const engine = (query) => `${url}/socket.io/?EIO=4&${query}`;
const closed = (socket) => new Promise((resolve) => socket.once("close", (code) => resolve(code)));
const next = (socket) => new Promise((resolve) => socket.once("message", (data) => resolve(String(data))));

await run(async () => {
  // A client that answers pings stays connected.
  const alive = connect(newest, { transports: ["websocket"] });
  const polls = connect(newest, { transports: ["polling"] });
  await Promise.all([once(alive, "welcome"), once(polls, "welcome")]);

  // One over a WebSocket that does not answer them.
  const mute = new WebSocket(engine("transport=websocket").replace("http", "ws"));
  assert.match(await next(mute), /^0{/);
  mute.send("40");
  assert.match(await next(mute), /^40{/);
  await closed(mute);

  // One that polls once and never again.
  const open = await (await fetch(engine("transport=polling"))).text();
  const { sid } = JSON.parse(open.slice(1));
  await fetch(engine(`transport=polling&sid=${sid}`), { method: "POST", body: "40" });
  let status;
  do {
    const answer = await fetch(engine(`transport=polling&sid=${sid}`), { method: "POST", body: "6" });
    status = answer.status;
    await answer.text();
    await new Promise((resolve) => setTimeout(resolve, 3000));
  } while (status === 200 && false);
  const late = await fetch(engine(`transport=polling&sid=${sid}`));
  assert.deepEqual([late.status, (await late.json()).code], [400, 1]);

  assert(alive.connected && polls.connected);
  alive.disconnect();
  polls.disconnect();
});
