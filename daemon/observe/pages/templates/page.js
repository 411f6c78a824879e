// The parts of the page that changed are replaced; sections that are unfolded stay so, and the focus stays where it is.
const main = document.querySelector("main");
const sourcesOf = (element) => [...element.children].map((one) => one.outerHTML);
const nameOf = (one) =>
  one.matches("summary") ? one.parentElement.id : one.id || one.getAttribute("href") || one.getAttribute("aria-label");
let sources = sourcesOf(main);
const replace = (shown, fresh) => {
  const open = new Set([...shown.querySelectorAll("details[open]")].map((one) => one.id));
  fresh.querySelectorAll("details").forEach((one) => { one.open = open.has(one.id); });
  const focus = document.activeElement;
  const focused = focus !== main && shown.contains(focus) ? nameOf(focus) : null;
  if (shown === main) main.replaceChildren(...fresh.childNodes);
  else shown.replaceWith(fresh);
  if (focused === null) return;
  const again = [...main.querySelectorAll("summary, a, [tabindex]")].find((one) => nameOf(one) === focused);
  if (again) again.focus({ preventScroll: true });
};
const renew = async () => {
  try {
    const answer = await fetch("/", { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    if (answer.ok && fresh) {
      const next = sourcesOf(fresh);
      if (next.length !== sources.length) replace(main, fresh);
      else {
        const pairs = [...main.children].map((one, at) => [one, fresh.children[at], next[at] !== sources[at]]);
        pairs.filter(([, , differs]) => differs).forEach(([one, other]) => replace(one, other));
      }
      sources = next;
    }
    document.body.classList.toggle("stale", !answer.ok);
  } catch {
    document.body.classList.add("stale");
  }
  setTimeout(renew, 1000);
};
setTimeout(renew, 1000);
