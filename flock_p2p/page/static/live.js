// The one connection to the peer: opened again when it breaks, each time a little later, and at once when asked.

const PATH = "/api/live";
const SILENT_MS = 40_000; // the peer says something every 15 s
const DELAYS_MS = [500, 1000, 2000, 4000, 8000, 10_000];

export class Live {
  #socket = null;
  #tries = 0;
  #timer = 0;
  #watchdog = 0;

  // `tell`: connecting, live, or gone with the time of the next try and, where there is one, the reason in a sentence.
  constructor(onMessage, tell) {
    this.onMessage = onMessage;
    this.tell = tell;
  }

  start() {
    clearTimeout(this.#timer);
    this.#drop();
    if (this.#tries === 0) this.tell({ state: "connecting" });
    const socket = new WebSocket(`ws://${location.host}${PATH}`);
    this.#socket = socket;
    socket.addEventListener("message", (event) => {
      if (socket !== this.#socket) return;
      this.#expect();
      this.#tries = 0;
      this.tell({ state: "live" });
      this.onMessage(JSON.parse(event.data));
    });
    socket.addEventListener("close", (event) => socket === this.#socket && this.#lost(event.reason && `It said: ${event.reason}.`));
    this.#expect();
  }

  #expect() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#lost("It has said nothing for 40 seconds."), SILENT_MS);
  }

  #lost(reason) {
    this.#drop();
    const delay = DELAYS_MS[Math.min(this.#tries, DELAYS_MS.length - 1)];
    this.#tries += 1;
    this.tell({ state: "gone", reason, again: Date.now() + delay });
    this.#timer = setTimeout(() => this.start(), delay);
  }

  #drop() {
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}
