// Rooms as a bare broadcast loop over ws: what Node takes for the frames alone.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const http = createServer();
const server = new WebSocketServer({ server: http, perMessageDeflate: false });
const rooms = new Map();
let connections = 0;

server.on("connection", (socket) => {
  const by = String(++connections).padStart(16, "0");
  let room;

  socket.on("message", (message) => {
    const command = JSON.parse(message);
    if (command.rpc) {
      const { id, token, x, y } = command.rpc.data;
      room.offset += 1;
      const { channel, offset } = room;
      const at = new Date().toISOString();
      const data = { type: "token.moved", by, at, id, token, x, y };
      const push = Buffer.from(JSON.stringify({ push: { channel, pub: { data, offset } } }));
      for (const member of room.members) member.send(push, { binary: false });
      socket.send(JSON.stringify({ id: command.id, rpc: { data: { offset } } }));
    } else if (command.subscribe) {
      const { channel } = command.subscribe;
      room = rooms.get(channel) ?? { channel, members: new Set(), offset: 0 };
      rooms.set(channel, room);
      room.members.add(socket);
      const subscribe = { epoch: "none", offset: room.offset };
      socket.send(JSON.stringify({ id: command.id, subscribe }));
    }
  });

  socket.on("close", () => room?.members.delete(socket));
});

process.on("SIGTERM", () => process.exit(0));
http.listen(0, "127.0.0.1", 4096, () => console.log(`listening:${http.address().port}`));
