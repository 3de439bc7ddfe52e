// Several sources: in one namespace, and in another one that needs a key.
import assert from "node:assert/strict";
import { emitted, once, run, url, withEach } from "./client.mjs";

const { KEY } = process.env;

await run(() =>
  withEach(async (io, transports) => {
    // Both namespaces share one connection.
    const options = { transports, path: "/events", auth: { token: KEY } };
    const open = io(url, { transports, path: "/events", forceNew: true });
    const shop = open.io.socket("/shop", options);
    shop.auth = { token: KEY };
    shop.connect();
    const heard = [];
    open.onAny((name, data) => heard.push(["open", name, data]));
    shop.onAny((name, data) => heard.push(["shop", name, data]));
    await Promise.all([once(open, "connect"), once(shop, "connect")]);
    assert.notEqual(open.id, shop.id);

    const order = await emitted(shop, "order", { user: "a", amount: 1 });
    assert.deepEqual(Object.keys(order), ["orderId"]);
    const refund = await emitted(shop, "refund", { user: "a", amount: 2 });
    assert.deepEqual(Object.keys(refund), ["refundId"]);
    const view = await emitted(open, "view", { user: "a", amount: 3 });
    assert.equal(view.ok, true);
    const wrongPlace = await emitted(open, "order", { user: "a", amount: 1 });
    assert.match(wrongPlace.message, /\(names: `view`\)/);
    const wrong = await emitted(shop, "order", { user: "a" });
    assert.equal(wrong.message, "The order is not complete: amount: is missing");

    // A source without `answer_event` answers the callback only, and refusals have the name that it gave them.
    assert.deepEqual(
      heard.map(([place, name]) => `${place} ${name}`).sort(),
      ["open error", "shop problem", "shop refunded"],
    );

    // A client may leave one namespace and stay in the other.
    shop.disconnect();
    assert.equal((await emitted(open, "view", { user: "a", amount: 3 })).ok, true);

    const without = open.io.socket("/shop", {});
    without.auth = {};
    without.connect();
    const error = await once(without, "connect_error");
    assert.match(error.message, /no key/);
    assert.equal((await emitted(open, "view", { user: "a", amount: 3 })).ok, true);
    open.disconnect();
  }),
);
