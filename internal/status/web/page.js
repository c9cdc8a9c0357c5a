"use strict";
// Asks for the page again and exchanges the parts that have changed, so that nothing
// flickers, scrolls, or closes.
const every = 5000;
const lost = document.getElementById("lost");

function exchange(part, fresh) {
  for (const details of part.querySelectorAll("details[open]")) {
    fresh.querySelector("#" + details.id)?.setAttribute("open", "");
  }
  if (part.innerHTML === fresh.innerHTML) {
    return;
  }
  const focus = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.replaceChildren(...document.importNode(fresh, true).childNodes);
  if (focus) {
    document.getElementById(focus)?.focus({ preventScroll: true });
  }
}

async function refresh() {
  if (document.hidden) {
    return;
  }
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(every) });
    if (!answer.ok) {
      throw new Error(answer.statusText);
    }
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = next.getElementById(part.id);
      if (fresh) {
        exchange(part, fresh);
      }
    }
    document.title = next.title;
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  }
}

async function keepOn() {
  await refresh();
  setTimeout(keepOn, every);
}

setTimeout(keepOn, every);
document.addEventListener("visibilitychange", refresh);
