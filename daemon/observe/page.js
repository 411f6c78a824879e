const renew = async () => {
  try {
    const answer = await fetch("/", { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    const shown = document.querySelector("main");
    if (answer.ok && fresh && fresh.innerHTML !== shown.dataset.source) {
      const source = fresh.innerHTML;
      const open = new Set([...shown.querySelectorAll("details[open]")].map((one) => one.id));
      fresh.querySelectorAll("details").forEach((one) => { one.open = open.has(one.id); });
      shown.replaceChildren(...fresh.childNodes);
      shown.dataset.source = source;
    }
    document.body.classList.toggle("stale", !answer.ok);
  } catch {
    document.body.classList.add("stale");
  }
  setTimeout(renew, 1000);
};
setTimeout(renew, 1000);
