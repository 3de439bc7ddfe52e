// The whole exchange of the contract, with each version and transport.
import assert from "node:assert/strict";
import { Buffer, connect, emitted, once, run, withEach } from "./client.mjs";

const good = { productId: 23, productName: "Product 1", quantity: 50, price: 10.99, timestamp: 1700000000000 };
const isNow = (time) => Number.isInteger(time) && Math.abs(time - Date.now()) < 60_000;

await run(() =>
  withEach(async (io, transports) => {
    const socket = connect(io, { transports });
    const received = { messageReceived: [], error: [] };
    for (const name of Object.keys(received)) socket.on(name, (data) => received[name].push(data));
    const welcome = await once(socket, "welcome");
    assert.equal(welcome.message, "Connected to server");
    assert(isNow(welcome.timestamp));

    const answer = await emitted(socket, "clientData", good);
    assert.deepEqual(Object.keys(answer).sort(), ["messageId", "status", "timestamp"]);
    assert.equal(answer.status, "success");
    assert.match(answer.messageId, /^[0-9a-f-]{36}$/);
    assert(isNow(answer.timestamp));
    // The event has the same content as the callback.
    assert.deepEqual(received.messageReceived, [answer]);

    socket.emit("clientData", good);
    const second = await once(socket, "messageReceived");
    assert.notEqual(second.messageId, answer.messageId);

    const wrong = { ...good, productId: "a" };
    socket.emit("clientData", wrong);
    const error = await once(socket, "error");
    assert.equal(error.message, "productId: expected an integer, got text");
    assert(isNow(error.timestamp));
    const refused = await emitted(socket, "clientData", wrong);
    assert.equal(refused.status, "error");
    assert.equal(refused.message, "productId: expected an integer, got text");

    for (const [data, reason] of [
      [[{ ...good, price: 1.234 }], /^price: /],
      [[{ ...good, price: 123456789 }], /^price: /],
      [[{ ...good, quantity: 2 ** 31 }], /^quantity: /],
      [[{ ...good, productName: "" }], /^productName: is missing/],
      [["text"], /object/],
      [[null], /object/],
      [[], /no data/],
      [[good, good], /2 arguments/],
      [[{ ...good, photo: Buffer.from("photo") }], /binary/],
      [[{ ...good, photos: [Buffer.from("a"), Buffer.from("b")] }], /binary/],
    ]) {
      const answer = await emitted(socket, "clientData", ...data);
      assert.equal(answer.status, "error", JSON.stringify(data));
      assert.match(answer.message, reason);
    }
    const unknown = await emitted(socket, "clientdata", good);
    assert.match(unknown.message, /no source takes events of this name \(names: `clientData`\)/);

    // After all refusals the connection still works, and the order is kept.
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, n) => emitted(socket, "clientData", { ...good, quantity: n })),
    );
    assert(answers.every((answer) => answer.status === "success"));
    const ids = answers.map((answer) => answer.messageId);
    assert.equal(new Set(ids).size, 200);
    assert.deepEqual([...ids].sort(), ids);
    assert.equal(socket.io.engine.transport.name, transports.at(-1));
    assert.equal(received.messageReceived.length, 202);
    socket.disconnect();
  }),
);
