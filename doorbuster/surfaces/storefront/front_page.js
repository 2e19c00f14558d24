// Makes the countdowns tick and the commands copyable. The page says everything without it.
(() => {
  "use strict";
  // The shop's clock decides when a deal opens, not this computer's.
  const drift = Date.parse(document.body.dataset.now) - Date.now();
  const two = (n) => String(n).padStart(2, "0");
  const counters = [...document.querySelectorAll("time[data-count]")].map((node) => ({
    node, until: Date.parse(node.dateTime), opens: node.dataset.count === "opens",
  }));

  const spell = (ms) => {
    const s = Math.floor(ms / 1000), d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
    const clock = `${two(h)}:${two(m)}:${two(s % 60)}`;
    return d ? `${d} d ${clock}` : clock;
  };
  const tick = () => {
    const now = Date.now() + drift;
    for (const { node, until, opens } of counters) {
      node.textContent = until > now ? spell(until - now) : opens ? "open: reload" : "over: reload";
    }
    if (counters.some(({ until }) => until > now)) setTimeout(tick, 1000 - (now % 1000));
  };
  if (counters.length) tick();

  const local = { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };
  for (const node of document.querySelectorAll("time[data-local]")) {
    node.textContent = new Date(node.dateTime).toLocaleString("en-GB", local);
  }

  const said = document.getElementById("said");
  if (!navigator.clipboard) return;
  for (const block of document.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${block.dataset.copy}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.querySelector("code").textContent);
        button.textContent = said.textContent = "Copied";
      } catch {
        button.textContent = said.textContent = "Select and copy by hand";
      }
      setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 2000);
    });
    block.append(button);
  }
})();
