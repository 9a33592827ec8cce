// The page's own modules, with a clock, sockets and answers of the test's own: what no test could wait for, or time.
// An expression; each probe returns what it saw, as JSON. Run in a page that is live.
({
  // One connection: what it told (state and milliseconds to the next try), how many sockets it opened, and at what time.
  async connection() {
    const { Live } = await import("/page/live.js");
    const real = [window.setTimeout, window.clearTimeout, window.WebSocket, Date.now];
    const [timers, sockets, told, heard] = [new Map(), [], [], []];
    let [time, ids] = [0, 0];
    window.setTimeout = (run, ms) => (timers.set(++ids, [time + ms, run]), ids);
    window.clearTimeout = (id) => timers.delete(id);
    window.WebSocket = class extends EventTarget {
      constructor() { super(); sockets.push(this); }
      close() {}
      say(text) { this.dispatchEvent(new MessageEvent("message", { data: text })); }
      end(reason) { this.dispatchEvent(new CloseEvent("close", { reason })); }
    };
    Date.now = () => time;
    const pass = (ms) => {
      const end = time + ms;
      for (let due; (due = [...timers].filter(([, [at]]) => at <= end).sort((a, b) => a[1][0] - b[1][0])[0]);) {
        timers.delete(due[0]);
        time = due[1][0];
        due[1][1]();
      }
      time = end;
    };
    const latest = () => { const { state, again, reason } = told.at(-1); return [state, again - time || 0, reason ?? "", sockets.length]; };
    try {
      const live = new Live((message) => heard.push(message), (link) => told.push(link));
      const seen = {};
      const look = (name) => { seen[name] = latest(); };
      live.start();
      look("started");
      sockets[0].say("1");
      look("heard");
      pass(39_999);
      look("silent for less");
      pass(1);
      look("silent");
      pass(499);
      look("waiting");
      pass(1);
      look("again");
      sockets[0].say("2"); // of the connection that was given up
      sockets[0].end("late");
      look("late words");
      seen.delays = [];
      for (let index = 0; index < 6; index += 1) {
        sockets.at(-1).end("why");
        seen.delays.push(latest()[1]);
        seen["why it ended"] = latest()[2];
        pass(10_000);
      }
      sockets.at(-1).say("3");
      sockets.at(-1).end("");
      look("after it was heard again");
      const before = sockets.length;
      live.start(); // as the button does
      pass(500);
      return { ...seen, heard, opened: sockets.length - before };
    } finally {
      [window.setTimeout, window.clearTimeout, window.WebSocket, Date.now] = real;
    }
  },

  // A list whose second row has the focus and is unfolded, as rows change, come and go.
  async lists() {
    const { h, keep } = await import("/page/dom.js");
    const list = document.body.appendChild(h("div", {}, "asking"));
    const make = (row) => h("details", {}, h("summary", {}, row.text));
    const show = (...rows) => keep(list, rows.map(([key, text]) => ({ key, text })), (row) => row.key, make);
    const look = () => [...list.children].map((each) => [each.textContent, each.open, each.contains(document.activeElement)]);
    show([1, "a"], [2, "b"]);
    list.children[1].open = true;
    list.children[1].querySelector("summary").focus();
    const same = list.children[1];
    show([3, "new"], [1, "a"], [2, "b"]);
    const seen = { kept: look(), isSame: same === list.children[2] };
    show([3, "new"], [2, "changed"], [1, "a"]);
    seen.changed = look();
    show([1, "a"], [2, "changed"], [3, "new"]);
    seen.moved = look();
    document.activeElement.blur();
    show([2, "changed again"], [3, "new"]);
    seen.left = look();
    const round = (open, text) => keep(list, [{ open, text }], () => 0, (row) => h("details", { open: row.open }, row.text));
    const isOpen = () => list.firstChild.open;
    seen.byItself = [[true, "runs"], [true, "still runs"], [false, "is over"]].map((row) => (round(...row), isOpen()));
    round(true, "runs");
    list.firstChild.open = false; // by hand
    seen.byHand = [[true, "still runs"], [false, "is over"]].map((row) => (round(...row), isOpen()));
    list.remove();
    return seen;
  },

  // A store of its own: what it keeps of rounds and lines, and what it shows of a chosen task before that is here.
  async gathered() {
    const one = await import("/page/store.js?probe");
    const numbers = (count, first = 1) => Array.from({ length: count }, (_, index) => ({ round: first + index, id: first + index }));
    const sections = (task, rounds) => ({ task: { task }, round: null, rounds: { task, last: 1, rounds, slashes_since: 1 }, measured: { task, losses: [], audits: [] } });
    const tell = (more, rows = [], reset = false) => one.take({ sections: more, log: { rows, reset }, at: 1 });
    const look = () => [one.store.sections.task?.task ?? null, one.rounds().length, one.rounds()[0]?.round ?? null, one.rounds().at(-1)?.round ?? null];
    const seen = {};
    tell(sections(1, numbers(300)), numbers(500));
    seen.many = [look(), one.store.lines.length, one.store.lines.at(-1).id];
    one.choose(2);
    seen.coming = [look(), one.store.sections.rounds.task, one.store.sections.measured.losses.length];
    one.takeOther(sections(2, numbers(3, 7)));
    seen.here = look();
    one.takeOther(null, "why");
    seen.failed = [look(), one.store.failure];
    one.choose(1);
    seen.own = look();
    one.choose(null);
    tell(sections(4, numbers(2)), numbers(1), true);
    seen.next = [look(), one.store.lines.length];
    tell({ peer: { account: "a", genesis: "g", version: "1" } });
    seen.another = ["1", "2"].map((version) => one.isAnother({ sections: { peer: { account: "a", genesis: "g", version } } }));
    return seen;
  },

  // Answers that come when another task is shown already, and one that does not come.
  async lateAnswers() {
    const { store, choose, rounds } = await import("/page/store.js");
    const [{ loadOlder }, { refresh }] = [await import("/page/rounds.js"), await import("/page/choice.js")];
    const real = window.fetch;
    const [asked, answers] = [[], []];
    window.fetch = (url) => new Promise((resolve, reject) => { asked.push(url); answers.push([resolve, reject]); });
    const answer = (index, value) => answers[index][0](new Response(JSON.stringify(value)));
    const until = async (isTrue) => { while (!isTrue()) await new Promise((resolve) => setTimeout(resolve)); };
    const other = (task) => ({ sections: { task: { ...store.live.task, task }, round: null, rounds: { task, last: 0, rounds: [], slashes_since: 1 }, measured: { task, losses: [], audits: [] } } });
    try {
      const seen = {};
      const older = loadOlder();
      choose(2);
      answer(0, { rounds: [{ ...store.live.round, round: 3 }] });
      await older;
      seen.left = rounds().length;
      const first = refresh();
      choose(3);
      answer(1, other(2));
      await until(() => asked.length === 3);
      seen.between = store.sections.task;
      answer(2, other(3));
      await first;
      seen.chosen = store.sections.task.task;
      choose(null);
      store.rounds.delete(1);
      const failing = loadOlder();
      answers[3][1](new Error("nobody is there"));
      await failing;
      seen.failure = document.querySelector("#rounds-body").innerText.includes("They cannot be had now: nobody is there");
      return { ...seen, asked };
    } finally {
      window.fetch = real;
      choose(null);
    }
  },

  // What is said above everything else, of a peer and a chain that differ from those of now in so much.
  async warned(changes) {
    const { store } = await import("/page/store.js");
    const { showWarnings } = await import("/page/status.js");
    const real = store.sections;
    const seen = changes.map((change) => {
      store.sections = { ...real, peer: { ...real.peer, ...change } };
      showWarnings();
      return [...document.querySelectorAll("#warnings p")].map((each) => each.textContent);
    });
    store.sections = real;
    showWarnings();
    return seen;
  },

  // Circles and names on the map, by how many are connected.
  async map(counts) {
    const { store } = await import("/page/store.js");
    const { showNetwork } = await import("/page/network.js");
    const real = store.sections;
    const seen = counts.map((count) => {
      const rows = Array.from({ length: count }, (_, index) => ({ ...real.peers.rows[0], account: `0x${String(index).padStart(40, "0")}` }));
      store.sections = { ...real, peers: { ...real.peers, count, rows } };
      showNetwork();
      return ["g", "g > text"].map((each) => document.querySelectorAll(`#peers-body .map > svg ${each}`).length);
    });
    store.sections = real;
    showNetwork();
    return seen;
  },

  // Levels shown by each choice, and whether the end is followed from the end and from above.
  async log() {
    const { store } = await import("/page/store.js");
    const { showLog } = await import("/page/log.js");
    const [lines, select] = [document.querySelector("#log-body .lines"), document.querySelector("#log-level")];
    const levels = (value) => {
      select.value = value;
      select.dispatchEvent(new Event("change"));
      return [lines.children.length, ...new Set([...lines.children].map((each) => each.className))].sort();
    };
    const add = () => { store.lines = [...store.lines, { ...store.lines[0], id: store.lines.at(-1).id + 1 }]; showLog(); };
    const fromEnd = () => Math.round(lines.scrollHeight - lines.scrollTop - lines.clientHeight);
    const seen = { grave: levels("grave"), all: levels("all") };
    lines.scrollTop = lines.scrollHeight;
    add();
    seen.atEnd = fromEnd();
    lines.scrollTop = 0;
    add();
    seen.above = lines.scrollTop;
    return seen;
  },

  // What is said of a phase that ends in a minute of chain time, so many seconds after the last block.
  async deadlines(ages) {
    const { now, store } = await import("/page/store.js");
    const { showTask, tickTask } = await import("/page/task.js");
    const real = store.sections;
    const seen = ages.map((age) => {
      store.sections = { ...real, chain: { ...real.chain, head_timestamp: now() - age } };
      showTask();
      tickTask();
      return document.querySelector("#deadline").textContent;
    });
    store.sections = real;
    showTask();
    return seen;
  },
})
