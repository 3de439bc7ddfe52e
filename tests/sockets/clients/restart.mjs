// Sends events with ids while the server is killed and started again. Each event is sent until it is acknowledged.
import assert from "node:assert/strict";
import { connect, once, run, say } from "./client.mjs";
import { newest, oldest } from "./client.mjs";

const EVENTS = Number(process.env.EVENTS);

// Sends an event, and returns the answer, or null if it does not come in time.
const emittedInTime = (socket, event) =>
  new Promise((resolve) => {
    const timer = setTimeout(() => resolve(null), 1000);
    socket.emit("change", event, (answer) => {
      clearTimeout(timer);
      resolve(answer);
    });
  });

await run(async () => {
  let acknowledged = 0;
  const clients = [];
  for (const [name, io] of [["new", newest], ["old", oldest]]) {
    for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
      const socket = connect(io, { transports, reconnectionDelay: 50, reconnectionDelayMax: 200 });
      const prefix = `${name}-${transports.join("-")}`;
      clients.push(
        (async () => {
          await once(socket, "welcome");
          for (let n = 0; n < EVENTS; n++) {
            // The client keeps events while it is not connected, and drops those that it has sent. So an event that is
            // not acknowledged in time is sent again.
            const event = { id: `${prefix}-${n}`, item: prefix, amount: n };
            for (;;) {
              const answer = await emittedInTime(socket, event);
              if (answer === null) continue;
              assert.equal(answer.status, "success", JSON.stringify(answer));
              if (n % 10 === 0) {
                // Some are sent again although they are acknowledged.
                const again = await emittedInTime(socket, event);
                assert(again === null || again.id === answer.id, JSON.stringify(again));
              }
              break;
            }
            acknowledged += 1;
            if (acknowledged % 100 === 0) say("acknowledged", acknowledged);
          }
          socket.disconnect();
        })(),
      );
    }
  }
  await Promise.all(clients);
});
