// Live: that something was written, by one stream for all tabs of the browser, which allows only six connections.
import { Failure } from "./api.js";

const HIDDEN_MS = 5000, SHARE = 3;

let channel = null, queued = false, reads = false, last = null;
let look = null, tell = null, reading = false, behind = false, pause = null;

const hear = message => {
  last = message;
  if (message.kind !== "wrote") return tell(message.kind, message.reason);
  behind = true;
  again();
};
const pass = message => {
  channel.postMessage(message);
  hear(message);
};

// Reads the stream for all tabs: until this one is closed, or another server has taken the place.
const read = () => new Promise(done => {
  const events = new EventSource("/api/live");
  reads = true;
  const end = () => { events.close(); reads = false; done(); };
  events.addEventListener("wrote", () => pass({ kind: "wrote" }));
  events.addEventListener("failed", event => pass({ kind: "failed", reason: JSON.parse(event.data).error }));
  events.onerror = () => {
    pass({ kind: "lost", reason: "callspan view has ended" });
    if (events.readyState === EventSource.CLOSED) end();
  };
});

// The tab that has the lock reads; another that begins to follow asks it what it heard last.
const join = () => {
  if (!channel) {
    channel = new BroadcastChannel("callspan");
    channel.onmessage = ({ data }) => {
      if (data !== "which") hear(data);
      else if (reads && last) channel.postMessage(last);
    };
    channel.postMessage("which");
  }
  if (!queued) navigator.locks.request("callspan", read).then(() => { queued = false; });
  queued = true;
};

const again = async () => {
  if (reading || pause !== null) return;
  [reading, behind] = [true, false];
  const began = performance.now();
  try {
    await look();
    tell("live");
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    tell("failed", error.message);
  } finally {
    reading = false;
    rest(performance.now() - began);
  }
};
// Reading takes at most a part of the time, of a hidden tab little.
const rest = spent => {
  pause = setTimeout(() => { pause = null; if (behind) again(); }, document.hidden ? HIDDEN_MS : SHARE * spent);
};

// Calls `looks`, which reads what is shown again, after something was written, and `tells` with "live", or another word and
// a reason. What was written while the tab was hidden, or the laptop slept, is read when it is seen again.
export const follow = (looks, tells) => {
  [look, tell] = [looks, tells];
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !behind) return;
    clearTimeout(pause);
    pause = null;
    again();
  });
  join();
};
