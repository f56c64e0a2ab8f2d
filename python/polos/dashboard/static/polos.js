// Keeps the page up to date and writes times in words. The page also works without this script:
// it is complete when it arrives, and its forms are plain forms.
"use strict";
(() => {
  const live = document.getElementById("live");
  const pulse = document.getElementById("pulse");
  const trouble = document.getElementById("trouble");
  const announcer = document.getElementById("announcer");
  const secret = document.querySelector('meta[name="polos-form"]').content;

  // --- times -----------------------------------------------------------------------------

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const full = new Intl.DateTimeFormat(undefined, {
    dateStyle: "medium", timeStyle: "long",
  });
  const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

  function span(seconds) {
    const s = Math.round(seconds);
    if (s < 60) return `${s} s`;
    const min = Math.round(s / 60);
    if (min < 60) return `${min} min`;
    const h = Math.floor(min / 60);
    if (h < 10 && min % 60) return `${h} h ${min % 60} min`;
    if (h < 48) return `${h} h`;
    return `${Math.round(h / 24)} d`;
  }

  // If the clocks differ, the one of the server counts: slots are due by it.
  const ahead = Date.parse(live.dataset.now) - Date.now();
  const offset = Math.abs(ahead) > 5000 ? ahead : 0;

  function distance(when) {
    const seconds = (when - Date.now() - offset) / 1000;
    if (Math.abs(seconds) < 1) return "now";
    return seconds > 0 ? `in ${span(seconds)}` : `${span(-seconds)} ago`;
  }

  function formatTimes(root) {
    for (const time of root.querySelectorAll("time[data-ago], time[data-distance]")) {
      const when = Date.parse(time.dateTime);
      if (Number.isNaN(when)) continue;
      if (!time.title) time.title = full.format(when);
      const text = distance(when);
      if (time.textContent !== text) time.textContent = text;
    }
    for (const text of root.querySelectorAll("text[data-clock]")) {
      const clock = hour.format(Date.parse(text.dataset.clock));
      if (text.textContent !== clock) text.textContent = clock;
    }
  }

  document.getElementById("zone").textContent = `Times without a zone are in your time zone, ${zone}.`;
  formatTimes(document);
  setInterval(() => { if (!document.hidden) formatTimes(document); }, 1000);

  // --- applying updates ------------------------------------------------------------------

  // Nodes of the same kind (element with its id, or else its first class) are updated in place.
  const kind = (node) => node.nodeType === Node.ELEMENT_NODE
    ? `${node.nodeName}#${node.getAttribute("id") || ""}.${node.getAttribute("id") ? "" : node.classList[0] || ""}`
    : node.nodeName;

  function patch(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    // The user is filling in this form.
    if (old.nodeName === "FORM" && old.contains(document.activeElement)) return;
    for (const { name } of [...old.attributes]) {
      if (name !== "open" && name !== "class" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      // Keep what the user has typed. Hidden inputs are always updated.
      const isTyped = name === "value" && old.nodeName === "INPUT" && old.type !== "hidden";
      if (name === "open" || isTyped) continue;
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    if (!fresh.hasAttribute("class") && old.hasAttribute("class")) old.removeAttribute("class");
    patchChildren(old, fresh);
  }

  function patchChildren(old, fresh) {
    // Remove first what is gone, so that what remains does not have to move.
    const names = new Set([...fresh.children].map((child) => child.getAttribute("id")));
    for (const child of [...old.children]) {
      if (child.hasAttribute("id") && !names.has(child.getAttribute("id"))) child.remove();
    }
    let at = old.firstChild;
    const drop = () => { const next = at.nextSibling; at.remove(); at = next; };
    for (const wanted of [...fresh.childNodes]) {
      const wantedKind = kind(wanted);
      let found = at;
      while (found && kind(found) !== wantedKind) found = found.nextSibling;
      if (!found || wanted.nodeType === Node.TEXT_NODE && found !== at) {
        if (wanted.id && wanted.classList) wanted.classList.add("fresh");
        old.insertBefore(wanted, at);
        continue;
      }
      // Remove blanks in between rather than move a node: a moved node loses the focus.
      while (at !== found && at.nodeType === Node.TEXT_NODE) drop();
      if (at === found) at = found.nextSibling;
      else old.insertBefore(found, at);
      patch(found, wanted);
    }
    while (at) drop();
  }

  function applyUpdate(update) {
    trouble.hidden = !update.trouble;
    if (update.trouble) {
      trouble.textContent = `This page cannot be updated: ${update.trouble}.`;
      return;
    }
    const fresh = new DOMParser().parseFromString(`<div>${update.html}</div>`, "text/html").body.firstChild;
    for (const input of fresh.querySelectorAll('input[name="secret"]')) input.setAttribute("value", secret);
    formatTimes(fresh);
    const before = announcements();
    patchChildren(live, fresh);
    document.title = `${update.title} – polos`;
    const after = announcements();
    if (after !== before) announcer.textContent = after;
  }

  // What a screen reader reads aloud when it changes.
  const announcements = () => [...live.querySelectorAll("[data-announce]")]
    .map((node) => `The ${node.dataset.announce} is ${node.textContent.trim()} now.`).join(" ");

  // --- updates -------------------------------------------------------------------------

  let source = null, timer = 0, wait = 0;
  let revision = live.dataset.revision;

  function show(state, text) {
    pulse.hidden = false;
    pulse.className = `pulse ${state}`;
    if (pulse.textContent !== text) pulse.textContent = text;
  }

  function open() {
    clearTimeout(timer);
    if (source || !revision) return;
    const address = new URL(location.href);
    address.hash = "";
    address.searchParams.delete("done");
    address.searchParams.set("live", revision);
    source = new EventSource(address);
    source.onopen = () => { wait = 0; show("on", "live"); };
    source.onmessage = (event) => {
      revision = event.lastEventId || revision;
      applyUpdate(JSON.parse(event.data));
    };
    source.onerror = () => {
      // A stream ends now and then. The browser would reconnect by itself, but with the first
      // revision, and not after an error status.
      close();
      if (wait) show("off", "not live");
      timer = setTimeout(open, wait * 1000 + 200);
      wait = Math.min(wait * 2 || 2, 60);
    };
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  // Browsers limit the connections to a host: a hidden page closes its own.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { clearTimeout(timer); close(); } else { open(); }
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });

  // Escape and a click elsewhere close a menu.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  if (!document.hidden) open();
})();
