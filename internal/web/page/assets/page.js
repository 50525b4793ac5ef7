// Keeps what changes on the page up to date. Without it the page shows what was
// so when it was loaded, and says when that was.
"use strict";
(() => {
  const from = document.body.dataset.liveFrom;
  if (!from) return;
  const note = document.querySelector("[data-live-note]");
  const busy = 1000, idle = 5000, slowest = 30000; // milliseconds between two looks
  let failures = 0;

  // merge makes old what fresh is with as few changes as possible, so that bars
  // move, focus stays, and a selection is not lost.
  const merge = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh.cloneNode(true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const have = [...old.childNodes], want = [...fresh.childNodes];
    want.forEach((node, i) => (have[i] ? merge(have[i], node) : old.append(node.cloneNode(true))));
    have.slice(want.length).forEach((node) => node.remove());
  };

  const say = (text, lost) => {
    if (!note) return;
    if (note.textContent !== text) note.textContent = text;
    note.classList.toggle("lost", lost);
  };

  const look = async () => {
    const answer = await fetch(from, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!(answer.headers.get("content-type") || "").startsWith("text/html")) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const parts = [...fresh.querySelectorAll("[data-live]")];
    if (!parts.length) throw new Error("no such page");
    for (const part of parts) {
      const old = document.querySelector(`[data-live="${part.dataset.live}"]`);
      if (old) merge(old, part);
    }
    if (document.title !== fresh.title) document.title = fresh.title;
  };

  const run = async () => {
    if (!document.hidden) {
      try {
        await look();
        failures = 0;
        say("Kept up to date.", false);
      } catch {
        failures++;
        if (failures > 1) say("Live updates are lost: this is how it was then.", true);
      }
    }
    const pace = document.querySelector("progress") ? busy : idle;
    setTimeout(run, Math.min(pace * 2 ** Math.min(failures, 5), slowest));
  };

  document.addEventListener("visibilitychange", () => { if (!document.hidden) look().catch(() => {}); });
  setTimeout(run, busy);
})();
