// The unmodified npm client, knowing only the contract: subscribe, give commands, print what is heard, a JSON line each.
// Usage: node recovering.mjs PATH_OF_web/package.json WS_URL TOKEN ROOM TOKEN_ID_OF_A_PIECE MOVES

import { createRequire } from "node:module";

const [packages, url, token, room, piece, moves] = process.argv.slice(2);
const { Centrifuge } = createRequire(packages)("centrifuge");
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const client = new Centrifuge(url, { token, minReconnectDelay: 20, maxReconnectDelay: 200 });
client.on("disconnected", (context) => say({ disconnected: context.code, reason: context.reason }));
client.on("error", () => {});
const subscription = client.newSubscription(`room:${room}`, { recoverable: true, joinLeave: true });
subscription.on("subscribed", (context) =>
  say({
    subscribed: context.streamPosition,
    wasRecovering: context.wasRecovering,
    recovered: context.recovered,
    snapshot: context.data?.offset ?? null,
  }),
);
subscription.on("publication", (context) => say({ offset: context.offset, data: context.data }));
subscription.subscribe();
client.connect();
await subscription.ready(30000);

// A call that was cut off may have been carried out or not: sent again under the same id it is carried out once.
for (let number = 0; number < Number(moves); number += 1) {
  const command = { room, id: `js-${number}`, type: "token.move", token: piece, x: number, y: 1 };
  for (let attempt = 0; ; attempt += 1) {
    try {
      const reply = await client.rpc("room.command", command);
      say({ acknowledged: number, offset: reply.data.offset });
      break;
    } catch (error) {
      if (attempt > 100) throw error;
      await client.ready(30000);
    }
  }
}
say({ done: true });
process.stdin.on("end", () => client.disconnect());
process.stdin.resume();
