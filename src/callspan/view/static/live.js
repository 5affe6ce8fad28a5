// Live: one stream for all tabs of the browser, which allows only six connections, and what changed on the page of this one.
import { changes, Failure } from "./api.js";

const HIDDEN_MS = 5000, SHARE = 3;

const followers = new Set();
let channel = null, queued = false, reads = false, last = null;

const hear = message => {
  last = message;
  for (const one of followers) one(message);
};
const pass = message => {
  channel.postMessage(message);
  hear(message);
};

// Reads the stream for all tabs: until this one is closed, the store cannot tell, or another server has taken the place.
const read = () => new Promise(done => {
  const events = new EventSource("/api/live");
  reads = true;
  const end = () => { events.close(); reads = false; done(); };
  events.addEventListener("wrote", () => pass({ kind: "wrote" }));
  events.addEventListener("failed", event => pass({ kind: "failed", reason: JSON.parse(event.data).error }));
  events.addEventListener("still", () => { pass({ kind: "still" }); end(); });
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

// Follows a page: `on.rows` gets what differs from `first` and from then on, `on.state` "live", "still" (the store cannot
// tell), or another word with a reason. What was written while the tab was hidden, or the laptop slept, comes in then.
export const follow = (page, values, first, on) => {
  let ended = false, reading = false, behind = true, pause = null;
  const look = async () => {
    if (ended || reading || pause !== null) return;
    [reading, behind] = [true, false];
    const began = performance.now();
    try {
      const found = await changes(page, values, first);
      if (ended) return;
      on.state("live");
      if (found) on.rows(found);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (!ended) on.state("failed", error.message);
      if (error.isFinal) stop();
    } finally {
      reading = false;
      rest(performance.now() - began);
    }
  };
  // Reading takes at most a part of the time, of a hidden tab little.
  const rest = spent => {
    if (ended) return;
    const again = () => { pause = null; if (behind) look(); };
    pause = setTimeout(again, document.hidden ? HIDDEN_MS : SHARE * spent);
  };
  const heard = ({ kind, reason }) => {
    if (kind !== "wrote") return on.state(kind, reason);
    behind = true;
    look();
  };
  const seen = () => {
    if (document.hidden || !behind) return;
    clearTimeout(pause);
    pause = null;
    look();
  };
  const stop = () => {
    ended = true;
    clearTimeout(pause);
    followers.delete(heard);
    document.removeEventListener("visibilitychange", seen);
  };
  followers.add(heard);
  document.addEventListener("visibilitychange", seen);
  join();
  if (last) heard(last);
  return stop;
};
