// Keeps the page up to date, and says times in words. Everything works without it, only not by
// itself: the page is complete when it arrives, and its forms are plain forms.
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

  // Where the clocks differ, what counts is the one that slots are due by.
  const ahead = Date.parse(live.dataset.now) - Date.now();
  const offset = Math.abs(ahead) > 5000 ? ahead : 0;

  function distance(when) {
    const seconds = (when - Date.now() - offset) / 1000;
    if (Math.abs(seconds) < 1) return "now";
    return seconds > 0 ? `in ${span(seconds)}` : `${span(-seconds)} ago`;
  }

  function sayTimes(root) {
    for (const time of root.querySelectorAll("time[data-ago], time[data-distance]")) {
      const when = Date.parse(time.dateTime);
      if (Number.isNaN(when)) continue;
      if (!time.title) time.title = full.format(when);
      const text = distance(when);
      if (time.textContent !== text) time.textContent = text;
    }
    for (const text of root.querySelectorAll("text[data-clock]")) {
      const said = hour.format(Date.parse(text.dataset.clock));
      if (text.textContent !== said) text.textContent = said;
    }
  }

  document.getElementById("zone").textContent = `Times without a zone are in your time zone, ${zone}.`;
  sayTimes(document);
  setInterval(() => { if (!document.hidden) sayTimes(document); }, 1000);

  // --- taking over what has changed ------------------------------------------------------

  // What may become what: the same kind of thing, by name where it has one, else by class.
  const kind = (node) => node.nodeType === Node.ELEMENT_NODE
    ? `${node.nodeName}#${node.getAttribute("id") || ""}.${node.getAttribute("id") ? "" : node.classList[0] || ""}`
    : node.nodeName;

  function mend(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    // Somebody is filling it in.
    if (old.nodeName === "FORM" && old.contains(document.activeElement)) return;
    for (const { name } of [...old.attributes]) {
      if (name !== "open" && name !== "class" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      // What somebody has typed stays. Nobody types into a hidden input.
      const isTyped = name === "value" && old.nodeName === "INPUT" && old.type !== "hidden";
      if (name === "open" || isTyped) continue;
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    if (!fresh.hasAttribute("class") && old.hasAttribute("class")) old.removeAttribute("class");
    mendChildren(old, fresh);
  }

  function mendChildren(old, fresh) {
    // What is gone for good goes first, rather than that what stays moves past it.
    const names = new Set([...fresh.children].map((child) => child.getAttribute("id")));
    for (const child of [...old.children]) {
      if (child.hasAttribute("id") && !names.has(child.getAttribute("id"))) child.remove();
    }
    let at = old.firstChild;
    const drop = () => { const next = at.nextSibling; at.remove(); at = next; };
    for (const wanted of [...fresh.childNodes]) {
      const sought = kind(wanted);
      let found = at;
      while (found && kind(found) !== sought) found = found.nextSibling;
      if (!found || wanted.nodeType === Node.TEXT_NODE && found !== at) {
        if (wanted.id && wanted.classList) wanted.classList.add("fresh");
        old.insertBefore(wanted, at);
        continue;
      }
      // Blanks in between go, rather than that something moves: what is moved loses the focus.
      while (at !== found && at.nodeType === Node.TEXT_NODE) drop();
      if (at === found) at = found.nextSibling;
      else old.insertBefore(found, at);
      mend(found, wanted);
    }
    while (at) drop();
  }

  function take(news) {
    trouble.hidden = !news.trouble;
    if (news.trouble) {
      trouble.textContent = `This page cannot be updated: ${news.trouble}.`;
      return;
    }
    const fresh = new DOMParser().parseFromString(`<div>${news.html}</div>`, "text/html").body.firstChild;
    for (const input of fresh.querySelectorAll('input[name="secret"]')) input.setAttribute("value", secret);
    sayTimes(fresh);
    const before = said();
    mendChildren(live, fresh);
    document.title = `${news.title} – polos`;
    const after = said();
    if (after !== before) announcer.textContent = after;
  }

  // What is worth being read aloud when it changes.
  const said = () => [...live.querySelectorAll("[data-announce]")]
    .map((node) => `The ${node.dataset.announce} is ${node.textContent.trim()} now.`).join(" ");

  // --- hearing of it ---------------------------------------------------------------------

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
      take(JSON.parse(event.data));
    };
    source.onerror = () => {
      // Streams end every now and then, which is no trouble. The browser would try again by itself,
      // but with what it knew at first, and not after an answer that says no.
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

  // Browsers have few connections to one place: pages that nobody sees give theirs back.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { clearTimeout(timer); close(); } else { open(); }
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });

  // Menus close as menus do.
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
