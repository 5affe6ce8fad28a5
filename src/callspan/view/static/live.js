// Live: polls the store's version and has the page read again after each change.
import { get, Failure } from "./api.js";

const EVERY_MS = 500, FAILED_MS = 2000, HIDDEN_MS = 5000, SHARE = 3;

// Calls `look` after each change of the store, and `tell` with the reason of a failure, or null, whenever that changes.
// `look` takes at most a part of the time. A hidden tab polls rarely, and at once when it becomes visible.
export const follow = (look, tell) => {
  let seen = null, told, pause = null;
  const said = reason => { if (reason !== told) tell(told = reason); };
  const ask = async () => {
    clearTimeout(pause);
    pause = null;
    let began = performance.now(), spent = 0;
    try {
      const { version, error } = await get("version");
      if (error) throw new Failure(error);
      began = performance.now();
      if (version !== seen) await look();
      [seen, spent] = [version, performance.now() - began];
      said(null);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      seen = null;
      said(error.waits ? null : error.message);
    } finally {
      pause = setTimeout(ask, document.hidden ? HIDDEN_MS : told ? FAILED_MS : Math.max(EVERY_MS, SHARE * spent));
    }
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden && pause) ask(); });
  ask();
};
