// Rooms on Socket.IO. Arguments: none for one process, or the address of a Redis server that joins several.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [redis] = process.argv.slice(2);
const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false });
if (redis) {
  const publisher = createClient({ url: redis });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  io.adapter(createAdapter(publisher, subscriber));
}

const offsets = new Map();

io.on("connection", (socket) => {
  const by = socket.id.slice(0, 16);

  socket.on("join", async (room, answer) => {
    await socket.join(room);
    answer(offsets.get(room) ?? 0);
  });

  socket.on("move", ({ room, id, token, x, y }, answer) => {
    const offset = (offsets.get(room) ?? 0) + 1;
    offsets.set(room, offset);
    const at = new Date().toISOString();
    const data = { type: "token.moved", by, at, id, token, x, y };
    io.to(room).emit("push", { channel: `room:${room}`, pub: { data, offset } });
    answer(offset);
  });
});

process.on("SIGTERM", () => process.exit(0));
http.listen(0, "127.0.0.1", 4096, () => console.log(`listening:${http.address().port}`));
