// More clients than the request rate lets in at once. Each is let in later, without help of its user.
import { connect, newest, oldest, once, run } from "./client.mjs";

await run(async () => {
  const welcomed = [];
  for (let n = 0; n < 20; n++) {
    const options = { transports: ["websocket"], reconnectionDelay: 50, reconnectionDelayMax: 500 };
    const socket = connect(n % 2 ? newest : oldest, options);
    welcomed.push(once(socket, "welcome").then(() => socket.disconnect()));
  }
  await Promise.all(welcomed);
});
