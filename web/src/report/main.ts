/** The report: draws what the page carries, copies commands, and follows the light. Everything else is there without it. */
import "../look/tokens.css";
import "./fonts.css";
import "uplot/dist/uPlot.min.css";
import "./frame.css";
import "./figures.css";
import "./sizes.css"; // after what it changes
import type { Plot } from "./data";
import { Drawing, inkOf } from "./drawing";

const root = document.documentElement;
const told = document.querySelector<HTMLElement>("#told");

function say(words: string): void {
  if (told !== null) told.textContent = words;
}

function drawings(): Drawing[] {
  const plots = JSON.parse(document.querySelector("#plots")?.textContent ?? "[]") as Plot[];
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  const ink = inkOf(probe);
  const made: Drawing[] = [];
  document.querySelectorAll<HTMLElement>(".plot").forEach((host, number) => {
    const plot = plots[number];
    if (plot === undefined || plot.series.every((one) => one.points.length === 0)) return;
    host.hidden = false;
    const drawing = new Drawing(plot, host, ink, say);
    new ResizeObserver(() => drawing.resize()).observe(host);
    made.push(drawing);
  });
  return made;
}

function followTheLight(made: Drawing[]): void {
  const repaint = (): void => made.forEach((one) => one.repaint());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  document.querySelector(".segmented")?.addEventListener("change", repaint);
  addEventListener("beforeprint", () => {
    root.dataset["printing"] = "";
    repaint();
  });
  addEventListener("afterprint", () => {
    delete root.dataset["printing"];
    repaint();
  });
}

function offerCopies(): void {
  document.querySelectorAll<HTMLButtonElement>(".command button").forEach((button) => {
    button.addEventListener("click", () => {
      const command = button.previousElementSibling?.textContent ?? "";
      navigator.clipboard.writeText(command).then(
        () => say("Copied"),
        () => say("The browser did not let the command be copied"),
      );
    });
  });
}

function followTheReader(): void {
  const links = new Map(
    [...document.querySelectorAll<HTMLAnchorElement>(".links a")].map((link) => [link.hash.slice(1), link]),
  );
  const seen = new IntersectionObserver(
    (entries) => {
      const here = entries.find((entry) => entry.isIntersecting);
      if (here === undefined) return;
      links.forEach((link, id) => {
        if (id === here.target.id) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      });
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  document.querySelectorAll("main > section").forEach((section) => seen.observe(section));
}

root.classList.add("js");
// faces are needed before words on a canvas are measured
void document.fonts.load('11px "Instrument Sans"').then(() => followTheLight(drawings()));
offerCopies();
followTheReader();
