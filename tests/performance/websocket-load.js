// Players at tables of ten, each moving its own piece at a steady rate, for k6 (1.1 or newer):
//
//   k6 run tests/performance/websocket-load.js --vus 1000 --duration 5m
//
// A virtual user is a player: it gets a session, joins its room and puts its piece there over REST, then connects to /ws as
// any client of the Centrifuge protocol does, subscribes to its room, and moves. Play begins when everybody has had the time
// to sit down, a hundred players a second, but after a third of the run at the latest.
//
// Settings, from the environment or as `-e NAME=VALUE`:
//
//   TABLEFORGE_URL   http://localhost:8080   the server; https:// makes wss:// of the sockets
//   ROOM_SIZE        10                      players a room
//   RATE             1                       moves of each player a second; above 50 the server's LIMIT_COMMANDS refuses
//   DELIVERY_MS      10                      95 of 100 deliveries have to take less
//   ACCESS_PASSWORD                          where the server asks for one
//
// What is counted, beside k6's own figures:
//
//   tableforge_delivery              from the moment a move was due until a member of its room had it, the mover too
//   tableforge_reply                 from that moment until the mover heard that the move is saved
//   tableforge_lateness              how long after that moment this tool sent the move. Where it is late by half of
//                                    DELIVERY_MS, k6 had too little of a processor: its threshold fails, and the times above
//                                    tell nothing of the server
//   tableforge_moves, tableforge_deliveries
//   tableforge_errors                share of the moves that were refused, or not answered
//   tableforge_deliveries_missing, tableforge_out_of_order, tableforge_connection_failures
//                                    must not happen at all

import exec from "k6/execution";
import http from "k6/http";
import { fail, sleep } from "k6";
import { Counter, Rate, Trend } from "k6/metrics";
import { WebSocket } from "k6/experimental/websockets";

const ADDRESS = (__ENV.TABLEFORGE_URL || "http://localhost:8080").replace(/\/+$/, "");
const ROOM_SIZE = Number(__ENV.ROOM_SIZE || 10);
const RATE = Number(__ENV.RATE || 1);
const DELIVERY_MS = Number(__ENV.DELIVERY_MS || 10);

const SEATED_A_SECOND = 100;
const SETTLE_MS = 1000;
// What is left of the run after the last move: its deliveries are timed by the clock below, which stops with the run.
const TAIL_MS = 1000;
// Less than the 30 seconds of grace that k6 gives a virtual user.
const ANSWERS_MS = 15000;
const COME_BACK_MS = 200;
const CONNECT_ID = 1;
const SUBSCRIBE_ID = 2;
const FIRST_ID = 10;
// Inside the 30 by 20 cells of a room that was just made.
const COLUMNS = 28;
const ROWS = 18;
const GOLDEN = 0.618033988749895;
const UNITS_MS = { ms: 1, s: 1000, m: 60000, h: 3600000 };

const delivery = new Trend("tableforge_delivery", true);
const reply = new Trend("tableforge_reply", true);
const lateness = new Trend("tableforge_lateness", true);
const moves = new Counter("tableforge_moves");
const deliveries = new Counter("tableforge_deliveries");
const errors = new Rate("tableforge_errors");
const missing = new Counter("tableforge_deliveries_missing");
const disordered = new Counter("tableforge_out_of_order");
const failures = new Counter("tableforge_connection_failures");

export const options = {
  vus: 10,
  duration: "30s",
  setupTimeout: "5m",
  // Without `url`: the addresses of rooms would make a series of figures each.
  systemTags: ["status", "method", "name", "scenario", "error_code", "expected_response"],
  summaryTrendStats: ["min", "med", "p(95)", "p(99)", "p(99.9)", "max"],
  thresholds: {
    tableforge_delivery: [`p(95)<${DELIVERY_MS}`],
    tableforge_lateness: [`p(99)<${DELIVERY_MS / 2}`],
    tableforge_deliveries: ["count>0"],
    tableforge_errors: ["rate<0.001"],
    tableforge_deliveries_missing: ["count==0"],
    tableforge_out_of_order: ["count==0"],
    tableforge_connection_failures: ["count==0"],
    http_req_failed: ["rate==0"],
  },
};

// What the command line asked for: how many players, and in milliseconds since the run began when play begins, how many
// moves a player makes, and how long the run is.
function planned() {
  const scenario = exec.test.options.scenarios.default;
  if (!scenario || scenario.executor !== "constant-vus") {
    fail("This script takes --vus and --duration; it cannot tell how many players other plans have.");
  }
  const length = [...scenario.duration.matchAll(/([\d.]+)(ms|s|m|h)/g)]
    .map(([, count, unit]) => Number(count) * UNITS_MS[unit])
    .reduce((sum, part) => sum + part, 0);
  const seating = Math.min((scenario.vus / SEATED_A_SECOND) * 1000, length / 3);
  const begin = seating + SETTLE_MS;
  const turns = Math.floor((RATE * (length - TAIL_MS - begin)) / 1000);
  if (!(turns >= 1)) {
    fail(
      `In ${scenario.duration} nobody would move: ${Math.round(begin + TAIL_MS)} ms go to sitting down` +
        ` and to the last answers, and a player moves once in ${1 / RATE} s. Give a longer --duration.`,
    );
  }
  return { players: scenario.vus, length, seating, begin, turns };
}

// Milliseconds since the run began. Date knows whole ones only, the progress of the run is exact; that ends at 1.
function elapsed(plan) {
  const share = plan.clock.progress;
  return share < 1 ? share * plan.length : Date.now() - plan.clock.startTime;
}

function call(method, path, name, body, token) {
  const headers = { "Content-Type": "application/json" };
  if (token) {
    headers.Authorization = `Bearer ${token}`;
  }
  // A script, not a browser: with the session's cookie as well, a change would need this server's Origin.
  const jar = new http.CookieJar();
  const answer = http.request(method, ADDRESS + path, JSON.stringify(body), {
    headers,
    jar,
    tags: { name },
  });
  if (answer.status < 200 || answer.status > 299) {
    // k6 lets a player who failed begin anew at once.
    sleep(1);
    fail(`${method} ${name}: ${answer.status || answer.error} ${answer.body || ""}`);
  }
  return answer.json();
}

function signedIn(name) {
  const password = __ENV.ACCESS_PASSWORD;
  const who = password ? { name, password } : { name };
  return call("POST", "/api/session", "/api/session", who).token;
}

// The rooms, each with the session of its first player, who is its GM.
export function setup() {
  const { players } = planned();
  const rooms = [];
  for (let first = 0; first < players; first += ROOM_SIZE) {
    const token = signedIn(`Player ${first + 1}`);
    const name = `k6 ${rooms.length + 1}`;
    const { id, invite } = call("POST", "/api/rooms", "/api/rooms", { name }, token);
    rooms.push({ id, invite, token });
  }
  return rooms;
}

export default function (rooms) {
  // One clock for all of the run: k6 makes another object each time that it is asked for its scenario.
  const plan = { ...planned(), clock: exec.scenario };
  const number = exec.vu.idInTest - 1;
  sleep(Math.max(0, (plan.seating * number) / plan.players - elapsed(plan)) / 1000);
  play(takeSeat(rooms[Math.floor(number / ROOM_SIZE)], number, plan), plan);
}

function takeSeat(room, number, plan) {
  const place = number % ROOM_SIZE;
  let token = room.token;
  if (place > 0) {
    token = signedIn(`Player ${number + 1}`);
    const path = "/api/rooms/{room}/join";
    call("POST", path.replace("{room}", room.id), path, { invite: room.invite }, token);
  }
  const path = "/api/rooms/{room}/commands";
  const name = `Piece ${number + 1}`;
  const add = { room: room.id, id: "piece", type: "token.add", name, x: 0, y: place };
  const added = call("POST", path.replace("{room}", room.id), path, add, token);
  const members = Math.min(ROOM_SIZE, plan.players - (number - place));
  return {
    room: room.id,
    token,
    piece: added.result.id,
    row: place % ROWS,
    // Players move at different moments of their period, spread evenly, the same ones in each run.
    phase: (((number + 1) * GOLDEN) % 1) * (1000 / RATE),
    turn: 0,
    // Moves that were sent and not answered, by the id of the request: when each was due, and what was sent.
    pending: new Map(),
    // The room's log ends there: everybody comes, puts a piece down, and moves.
    last: members * (2 + plan.turns),
    offset: 0,
    epoch: "",
  };
}

// A player at its table until the run is over; one whose connection breaks comes back, hears what it missed, and sends
// again what was not answered.
function play(seat, plan) {
  const address = `${ADDRESS.replace(/^http/, "ws")}/ws?room=${seat.room}`;
  const timers = new Set();
  let socket = null;
  let listening = false;
  let leaving = false;
  let begin = plan.begin;
  // Counted here and told at the end: k6 keeps a record of every number that it is told.
  let arrivals = 0;

  function later(wait, what) {
    const timer = setTimeout(
      () => {
        timers.delete(timer);
        what();
      },
      Math.max(0, wait),
    );
    timers.add(timer);
  }

  function leave() {
    if (!leaving) {
      leaving = true;
      deliveries.add(arrivals);
      missing.add(Math.max(0, seat.last - seat.offset));
      seat.pending.forEach(() => errors.add(true));
      timers.forEach(clearTimeout);
      socket.close();
    }
  }

  // Nobody leaves before the run is over: k6 would let another player begin.
  function lookWhetherDone() {
    if (seat.turn === plan.turns && seat.pending.size === 0 && seat.offset >= seat.last) {
      later(plan.length - elapsed(plan) + 1, leave);
    }
  }

  function planMove() {
    if (seat.turn === plan.turns) {
      lookWhetherDone();
      return;
    }
    const now = elapsed(plan);
    const due = begin + seat.phase + (seat.turn * 1000) / RATE;
    // A timer has whole milliseconds, so that is when the move is due; one that is overdue stays so.
    const wait = Math.max(0, Math.ceil(due - now));
    later(wait, () => move(wait > 0 ? now + wait : due));
  }

  function move(due) {
    lateness.add(Math.max(0, elapsed(plan) - due));
    const id = FIRST_ID + seat.turn;
    const data = {
      room: seat.room,
      // The moment is in the id, so that everybody who hears of the move can tell how long it took.
      id: `k6:${due.toFixed(3)}:${seat.turn}`,
      type: "token.move",
      token: seat.piece,
      x: (seat.turn % COLUMNS) + 0.5,
      y: seat.row,
    };
    const text = JSON.stringify({ id, rpc: { method: "room.command", data } });
    seat.pending.set(id, { due, text });
    seat.turn += 1;
    moves.add(1);
    if (listening) {
      socket.send(text);
    }
    planMove();
  }

  function inOrder(offset) {
    if (offset !== seat.offset + 1) {
      disordered.add(1);
    }
    seat.offset = offset;
  }

  function arrived(due) {
    delivery.add(elapsed(plan) - due);
    arrivals += 1;
  }

  // A publication is searched, not parsed: k6 hears ten of them for every move that it makes.
  function heard(text) {
    const found = text.indexOf('"id":"k6:');
    if (found >= 0) {
      arrived(Number(text.slice(found + 9, text.indexOf(":", found + 9))));
    }
    inOrder(Number(text.slice(text.lastIndexOf(":") + 1, -3)));
    if (seat.offset >= seat.last) {
      lookWhetherDone();
    }
  }

  function answered(message) {
    const sent = seat.pending.get(message.id);
    seat.pending.delete(message.id);
    errors.add("error" in message);
    if ("error" in message) {
      console.error(`a move was refused: ${JSON.stringify(message.error)}`);
    } else {
      reply.add(elapsed(plan) - sent.due);
    }
    lookWhetherDone();
  }

  function listen(subscribed) {
    const first = seat.epoch === "";
    seat.epoch = subscribed.epoch;
    if (!subscribed.recovered) {
      const here = subscribed.offset || 0;
      missing.add(first ? 0 : here - seat.offset);
      seat.offset = here;
    }
    for (const { offset, data } of subscribed.publications || []) {
      inOrder(offset);
      if (data.id.startsWith("k6:")) {
        arrived(Number(data.id.split(":")[1]));
      }
    }
    listening = true;
    seat.pending.forEach(({ text }) => socket.send(text));
    if (first) {
      if (elapsed(plan) > begin) {
        console.warn("a player sat down after play had begun: the server, or this tool, is too slow for so many");
        begin = elapsed(plan);
      }
      later(plan.length - elapsed(plan) + ANSWERS_MS, leave);
      planMove();
    }
    lookWhetherDone();
  }

  function received(text) {
    if (text === "{}") {
      socket.send("{}");
    } else if (text.startsWith('{"push":{"channel":"room:') && text.includes('"pub":{')) {
      heard(text);
    } else {
      const message = JSON.parse(text);
      if (message.id >= FIRST_ID) {
        answered(message);
      } else if (message.error || (message.push && (message.push.disconnect || message.push.unsubscribe))) {
        console.error(`a player was sent away: ${text}`);
        socket.close();
      } else if (message.subscribe) {
        listen(message.subscribe);
      }
    }
  }

  function hello() {
    const subscribe = { channel: `room:${seat.room}` };
    if (seat.epoch) {
      Object.assign(subscribe, { recover: true, offset: seat.offset, epoch: seat.epoch });
    }
    const connect = { token: seat.token, name: "k6" };
    socket.send(`${JSON.stringify({ id: CONNECT_ID, connect })}\n${JSON.stringify({ id: SUBSCRIBE_ID, subscribe })}`);
  }

  function comeIn() {
    socket = new WebSocket(address, null, { tags: { name: "/ws" } });
    const mine = socket;
    let over = false;
    // k6 tells of a refused connection by an error alone, of a lost one by both.
    function lost() {
      if (!over && !leaving) {
        over = true;
        listening = false;
        failures.add(1);
        if (elapsed(plan) < plan.length + ANSWERS_MS) {
          later(COME_BACK_MS, comeIn);
        }
      }
    }
    mine.onopen = hello;
    mine.onmessage = ({ data }) => mine === socket && data.split("\n").forEach(received);
    mine.onerror = lost;
    mine.onclose = lost;
  }

  comeIn();
}
