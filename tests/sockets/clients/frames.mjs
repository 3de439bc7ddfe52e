// WebSocket sources: frames of every form, the ways to show a key, and the ends of a connection.
import assert from "node:assert/strict";
import { WebSocket, listen, run, say, url } from "./client.mjs";

const { KEY, READ_KEY } = process.env;
const address = url.replace("http", "ws");
const native = `${address}/v1/streams/sales/socket`;
const headers = { Authorization: `Bearer ${KEY}` };

// A connection whose answers are taken one by one.
function open(target, protocols, options) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(target, protocols, options);
    const answers = [];
    const waiting = [];
    socket.on("message", (data) => {
      const answer = JSON.parse(String(data));
      waiting.length ? waiting.shift()(answer) : answers.push(answer);
    });
    socket.next = () => new Promise((taken) => (answers.length ? taken(answers.shift()) : waiting.push(taken)));
    socket.ask = (text) => {
      socket.send(typeof text === "string" ? text : JSON.stringify(text));
      return socket.next();
    };
    socket.closed = new Promise((closed) => socket.on("close", (code, text) => closed([code, String(text)])));
    socket.on("unexpected-response", async (request, response) => {
      let body = "";
      for await (const part of response) body += part;
      reject(Object.assign(new Error(`status ${response.statusCode}`), { status: response.statusCode, body }));
    });
    socket.on("error", reject);
    socket.on("open", () => resolve(socket));
  });
}

const sale = (n, more) => ({ user: `u${n % 3}`, amount: n, ...more });

await run(async () => {
  const socket = await open(native, { headers });
  const one = await socket.ask(sale(1));
  assert.equal(one.accepted, 1);
  assert.match(one.ids[0], /^[0-9a-f-]{36}$/);
  assert.equal(one.position, 0);
  assert.equal("error" in one, false);
  const two = await socket.ask([sale(2), sale(3)]);
  assert.deepEqual([two.accepted, two.ids.length, two.position], [2, 2, 1]);
  const lines = await socket.ask(`${JSON.stringify(sale(4))}\n${JSON.stringify(sale(5))}\r\n\n${JSON.stringify(sale(6))}\n`);
  assert.equal(lines.accepted, 3);
  assert.equal((await socket.ask(JSON.stringify(sale(7), null, 2))).accepted, 1);
  assert.deepEqual(await socket.ask("[]"), { accepted: 0, ids: [] });

  // An id names an event: a repeat has the same one, and counts once.
  const first = await socket.ask(sale(8, { id: "a" }));
  for (;;) {
    const again = await socket.ask(sale(8, { id: "a" }));
    assert.deepEqual(again.ids, first.ids);
    // The server says so once it is certain.
    if (again.repeats) {
      assert.deepEqual(again.repeats, [0]);
      break;
    }
  }
  const reused = await socket.ask(sale(9, { id: "a" }));
  assert.equal(reused.error.type, "urn:millrace:problem:conflict");

  // All events of a frame are stored, or none.
  for (const [frame, where] of [
    [sale(1, { amount: "x" }), undefined],
    [[sale(1), { user: "u" }], { index: 1 }],
    [`${JSON.stringify(sale(1))}\n${JSON.stringify({ user: "u" })}`, { line: 2 }],
  ]) {
    const refused = await socket.ask(frame);
    assert.equal(refused.accepted, 0);
    assert.equal(refused.error.type, "urn:millrace:problem:invalid-event");
    const [fault] = refused.error.errors;
    assert.equal(fault.field, "amount");
    if (where) assert.deepEqual({ ...fault, ...where }, fault);
  }
  for (const [frame, code] of [
    ["nonsense", "invalid-event"],
    ["[1,", "invalid-event"],
    ["", "invalid-event"],
    [`[${"1,".repeat(10_001)}1]`, "too-large"],
    [sale(1, { note: "x".repeat(1024 * 1024) }), "invalid-event"],
  ]) {
    const refused = await socket.ask(frame);
    assert.equal(refused.error.type, `urn:millrace:problem:${code}`, String(frame).slice(0, 20));
  }
  socket.send(Buffer.from("{}"));
  assert.match((await socket.next()).error.detail, /binary/);

  // Frames in flight are answered in their order.
  for (let n = 0; n < 500; n++) socket.send(n % 5 === 4 ? "wrong" : JSON.stringify(sale(n)));
  let last = -1;
  for (let n = 0; n < 500; n++) {
    const answer = await socket.next();
    assert.equal(answer.accepted, n % 5 === 4 ? 0 : 1);
    if (answer.accepted) {
      assert(answer.position > last);
      last = answer.position;
    }
  }

  // An event is taken back, and the events that follow it keep their place.
  socket.send(JSON.stringify({ takesBack: first.ids[0] }));
  socket.send(JSON.stringify(sale(10)));
  const [correction, after] = [await socket.next(), await socket.next()];
  assert.equal(correction.accepted, 1);
  assert.equal(after.position, correction.position + 1);
  socket.close(1000);
  assert.equal((await socket.closed)[0], 1000);

  // The ways to show a key.
  const bySubprotocol = await open(native, ["millrace", KEY]);
  assert.equal(bySubprotocol.protocol, "millrace");
  assert.equal((await bySubprotocol.ask(sale(1))).accepted, 1);
  bySubprotocol.close();
  const byFrame = await open(native);
  assert.deepEqual(await byFrame.ask({ auth: { token: KEY } }), { signedIn: true });
  assert.equal((await byFrame.ask(sale(1))).accepted, 1);
  byFrame.close();
  for (const frame of [{ auth: { token: "wrong" } }, { auth: { token: READ_KEY } }, sale(1)]) {
    const refused = await open(native);
    const { error } = await refused.ask(frame);
    assert.match(error.type, /unauthorized|forbidden/);
    assert.equal((await refused.closed)[0], 1008);
  }
  for (const [options, status] of [
    [{ headers: { Authorization: "wrong" } }, 401],
    [{ headers: { "X-API-Key": READ_KEY } }, 403],
    [{ headers, origin: "https://other.example" }, 403],
  ]) {
    const error = await open(native, options).catch((error) => error);
    assert.equal(error.status, status, error.message);
  }
  const nowhere = await open(`${address}/v1/streams/nothing/socket`, { headers }).catch((error) => error);
  assert.equal(nowhere.status, 404);

  // A source at a path of its own, open to one origin.
  const page = { origin: "https://shop.example" };
  const open1 = await open(`${address}/sales`, page);
  assert.equal((await open1.ask(sale(1, { id: "data" }))).accepted, 1);
  assert.equal((await open1.ask(sale(1, { id: "data" }))).repeats, undefined);
  open1.close();
  const foreign = await open(`${address}/sales`, { origin: "https://other.example" }).catch((error) => error);
  assert.equal(foreign.status, 403);

  // A frame that is too large, and one that no client may send.
  const large = await open(native, { headers });
  large.send("x".repeat(10_000_000));
  assert.match((await large.next()).error.detail, /a frame is larger than \d+ bytes/);
  assert.equal((await large.closed)[0], 1009);
  const broken = await open(native, { headers });
  broken._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]));
  assert.equal((await broken.closed)[0], 1002);

  // A key that expires, and a server that stops.
  say("key");
  const shortKey = await listen();
  const expiring = await open(native, { headers: { Authorization: shortKey } });
  const staying = await open(native, { headers });
  assert.equal((await expiring.ask(sale(1))).accepted, 1);
  assert.deepEqual(await expiring.closed, [1008, "the key was revoked or has expired"]);
  say("stop");
  for (let n = 0; n < 50; n++) staying.send(JSON.stringify(sale(n)));
  const [code, reason] = await staying.closed;
  assert.deepEqual([code, reason], [1001, "the server is stopping"]);
});
