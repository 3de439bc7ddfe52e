// Keys: which ones connect, and what a client learns otherwise.
import assert from "node:assert/strict";
import { connect, emitted, listen, once, run, say, withEach } from "./client.mjs";

const { SEND_KEY, READ_KEY, REVOKED_KEY } = process.env;
const good = { productId: 1, productName: "a", quantity: 1, price: 1 };

async function refusal(io, options) {
  const socket = connect(io, options);
  const error = await once(socket, "connect_error");
  assert(!socket.connected);
  socket.disconnect();
  return error;
}

await run(async () => {
  await withEach(async (io, transports) => {
    for (const options of [
      { auth: { token: SEND_KEY } },
      { auth: { token: `Bearer ${SEND_KEY}` } },
      { extraHeaders: { Authorization: SEND_KEY } },
      { extraHeaders: { "X-API-Key": SEND_KEY } },
      // The key in `auth` wins: a proxy may use the header for itself.
      { auth: { token: SEND_KEY }, extraHeaders: { Authorization: "Basic abc" } },
    ]) {
      const socket = connect(io, { transports, ...options });
      await once(socket, "welcome");
      assert.equal((await emitted(socket, "clientData", good)).status, "success");
      socket.disconnect();
    }
    for (const [options, message, code] of [
      [{}, /no key/, "unauthorized"],
      [{ auth: { token: "wrong" } }, /unknown/, "unauthorized"],
      [{ auth: { token: "" } }, /no key/, "unauthorized"],
      [{ extraHeaders: { Authorization: "wrong" } }, /unknown/, "unauthorized"],
      [{ auth: { token: 5 } }, /`token`/, "invalid-parameter"],
      [{ auth: { token: "a".repeat(5000) } }, /larger/, "too-large"],
    ]) {
      const error = await refusal(io, { transports, ...options });
      assert.match(error.message, message, JSON.stringify(options));
      assert.equal(error.data.code, code);
    }
    const nowhere = await refusal(io, { transports, url: `${process.env.SERVER}/nowhere` });
    assert.equal(nowhere.message, "Invalid namespace");
  });

  // A key that may only read watches changes, and cannot send.
  await withEach(async (io, transports) => {
    const reader = connect(io, { transports, auth: { token: READ_KEY } });
    await once(reader, "connect");
    assert.equal((await emitted(reader, "clientData", good)).code, "forbidden");
    const place = once(reader, "live");
    const subscribed = await emitted(reader, "subscribe", { stream: "inventory" });
    assert.deepEqual([subscribed.status, subscribed.subscription], ["success", 0]);
    assert.equal((await emitted(reader, "subscribe", { stream: "revenue" })).code, "forbidden");
    assert.equal((await place).event, "place");
    const sender = connect(io, { transports, auth: { token: SEND_KEY } });
    await once(sender, "welcome");
    const changed = once(reader, "live");
    await emitted(sender, "clientData", { ...good, quantity: 7 });
    const change = await changed;
    assert.deepEqual([change.event, change.subscription, change.data.event.quantity], ["change", 0, 7]);
    assert.equal((await emitted(reader, "unsubscribe", 0)).status, "success");
    reader.disconnect();
    sender.disconnect();
  });

  // A client may correct its key and connect again over the same session.
  await withEach(async (io, transports) => {
    const socket = connect(io, { transports, auth: { token: "wrong" } });
    await once(socket, "connect_error");
    socket.auth = { token: SEND_KEY };
    socket.connect();
    await once(socket, "welcome");
    socket.disconnect();
  });

  // Revocation ends the connections of a key, and clients do not try it again.
  const sockets = [];
  await withEach(async (io, transports) => {
    const socket = connect(io, { transports, auth: { token: REVOKED_KEY } });
    await once(socket, "welcome");
    await emitted(socket, "clientData", good);
    sockets.push(socket);
  });
  const gone = sockets.map((socket) => once(socket, "disconnect"));
  say("connected");
  await listen();
  for (const reason of await Promise.all(gone)) assert.equal(reason, "io server disconnect");
});
