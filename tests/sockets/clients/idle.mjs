// Very many idle clients, and one that never reads. Others are served as if they were not there.
import assert from "node:assert/strict";
import { WebSocket, connect, emitted, listen, newest, once, run, say, url } from "./client.mjs";

const IDLE = Number(process.env.IDLE);
const address = `${url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`;
const good = { productId: 1, productName: "a", quantity: 1, price: 1 };

// Opens a connection that answers pings and does nothing else.
function idle() {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(address, { perMessageDeflate: false });
    socket.on("error", reject);
    socket.on("message", (data) => {
      const packet = String(data);
      if (packet.startsWith("0")) socket.send("40");
      else if (packet.startsWith("40")) resolve(socket);
      else if (packet === "2") socket.send("3");
    });
  });
}

await run(async () => {
  const idlers = [];
  while (idlers.length < IDLE) {
    idlers.push(...(await Promise.all(Array.from({ length: Math.min(100, IDLE - idlers.length) }, idle))));
  }
  let lost = 0;
  idlers.forEach((socket) => socket.on("close", () => (lost += 1)));

  // A client that sends without an end and never reads an answer. The server stops reading from it, and gives it up.
  const greedy = await idle();
  greedy._socket.pause();
  const packet = `421${JSON.stringify(["clientData", { ...good, note: "x".repeat(1000) }])}`;
  let sent = 0;
  const gone = new Promise((resolve) => {
    const send = () => {
      if (greedy.readyState !== WebSocket.OPEN || greedy._socket.destroyed) return resolve();
      if (greedy.bufferedAmount < 1_000_000) for (let n = 0; n < 500; n++, sent++) greedy.send(packet, () => {});
      setTimeout(send, 5);
    };
    greedy._socket.on("close", resolve);
    greedy._socket.on("error", resolve);
    send();
  });

  const socket = connect(newest, { transports: ["websocket"] });
  await once(socket, "welcome");
  say("idle");
  let served = 0;
  let over = false;
  const serving = (async () => {
    while (!over) {
      assert.equal((await emitted(socket, "clientData", good)).status, "success");
      served += 1;
    }
  })();
  await listen();
  await gone;
  over = true;
  await serving;
  assert(served > 0);
  assert.equal(lost, 0);
  say("served", served, sent);
  await listen();
  idlers.forEach((socket) => socket.terminate());
  socket.disconnect();
});
