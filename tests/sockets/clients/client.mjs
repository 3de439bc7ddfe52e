// What the client programs share: the packages, and the lines by which they talk to their test.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { Buffer } from "node:buffer";

const require = createRequire(`${process.env.NODE_PACKAGES}/`);

export const newest = require("socket.io-client").io;
export const oldest = require("socket.io-client-4.0.0").io;
export const WebSocket = require("ws");
export const url = process.env.SERVER;
export { Buffer };

const lines = createInterface({ input: process.stdin });
const waiting = [];
const told = [];
lines.on("line", (line) => (waiting.length ? waiting.shift()(line) : told.push(line)));

// Prints a line for the test.
export const say = (...words) => console.log(words.map((word) => (typeof word === "string" ? word : JSON.stringify(word))).join(" "));

// Waits for a line of the test.
export const listen = () => new Promise((resolve) => (told.length ? resolve(told.shift()) : waiting.push(resolve)));

export const once = (emitter, event) => new Promise((resolve) => emitter.once(event, (...values) => resolve(values[0])));

export const emitted = (socket, event, ...data) => new Promise((resolve) => socket.emit(event, ...data, resolve));

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Runs a program, and ends the process with its outcome.
export async function run(program) {
  const limit = setTimeout(() => fail(new Error("the program takes too long")), 110_000);
  const fail = (error) => {
    console.error(error);
    process.exit(1);
  };
  process.on("unhandledRejection", fail);
  try {
    await program();
  } catch (error) {
    fail(error);
  }
  clearTimeout(limit);
  say("done");
  process.exit(0);
}

// Calls a test for each client version and each way to connect.
export async function withEach(test) {
  for (const [version, io] of [["newest", newest], ["4.0.0", oldest]]) {
    for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
      try {
        await test(io, transports);
      } catch (error) {
        error.message = `${version} over ${transports.join("+")}: ${error.message}`;
        throw error;
      }
    }
  }
}

export const connect = (io, options) => io(options.url ?? url, { forceNew: true, ...options });
