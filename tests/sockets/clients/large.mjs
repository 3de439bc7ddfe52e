// A message that is too large is refused, and the client can go on afterwards.
import assert from "node:assert/strict";
import { connect, emitted, once, run, say, withEach } from "./client.mjs";

const good = { productId: 1, productName: "a", quantity: 1, price: 1 };

await run(async () => {
  await withEach(async (io, transports) => {
    const socket = connect(io, { transports, reconnectionDelay: 10 });
    const errors = [];
    let disconnected = 0;
    socket.on("error", (error) => errors.push(error));
    socket.on("disconnect", () => (disconnected += 1));
    await once(socket, "welcome");
    // The largest event is accepted.
    const largest = { ...good, note: "" };
    largest.note = "x".repeat(1024 * 1024 - JSON.stringify(largest).length);
    assert.equal((await emitted(socket, "clientData", largest)).status, "success");
    largest.note += "x";
    const refused = await emitted(socket, "clientData", largest);
    assert.match(refused.message, /larger than 1048576 bytes/);
    assert.equal(disconnected, 0);

    // Events before the large one are answered. The oldest client would put both into one polling request.
    if (transports.length === 2 && socket.io.engine.transport.name === "polling") {
      await once(socket.io.engine, "upgrade");
    }
    const before = emitted(socket, "clientData", good);
    if (transports.at(-1) === "polling") await before;
    socket.emit("clientData", { ...good, note: "x".repeat(10_000_000) });
    await once(socket, "disconnect");
    assert.equal((await before).status, "success");
    if (transports.at(-1) === "websocket") {
      assert.match(errors.at(-1).message, /a message is larger than \d+ bytes/);
    }
    await once(socket, "welcome");
    assert.equal((await emitted(socket, "clientData", good)).status, "success");
    socket.disconnect();
  });
});
