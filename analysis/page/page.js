"use strict";
const all = selector => [...document.querySelectorAll(selector)];
const one = selector => document.querySelector(selector);

// A link into a fold opens it.
function reveal() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
addEventListener("load", reveal);
document.addEventListener("click", event => {
  const link = event.target.closest("a[href^='#']");
  if (!link) return;
  if (link.matches(".word")) {
    event.preventDefault();  // the meaning stands behind the word, and goes with a second click
    if (link.nextElementSibling?.matches(".note")) link.nextElementSibling.remove();
    else link.insertAdjacentElement("afterend", Object.assign(document.createElement("span"), {className: "note", textContent: link.title}));
  } else {
    if (!desk.matches) one("#menu").open = false;
    if (link.hash === location.hash) reveal();
  }
});

// The list of sections is open beside the text, and folded above it.
const desk = matchMedia("(min-width: 68rem)");
const fit = () => { one("#menu").open = desk.matches; };
desk.addEventListener("change", fit);
fit();
const links = new Map(all("#menu a").map(link => [link.hash.slice(1), link]));
const inView = new Set();
const seen = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) inView[isIntersecting ? "add" : "delete"](target.id);
  const here = [...links.keys()].find(name => inView.has(name));
  if (here) for (const [name, link] of links) link.classList.toggle("here", name === here);
}, {rootMargin: "-5% 0px -60% 0px"});
for (const section of all("header, section")) seen.observe(section);

// Open all folds, and close them.
one("#all")?.addEventListener("click", event => {
  const open = all(".fold").some(fold => !fold.open);
  for (const fold of all(".fold")) fold.open = open;
  event.target.textContent = open ? "Close all folds" : "Open all folds";
});
addEventListener("beforeprint", () => all(".fold").forEach(fold => { fold.open = true; }));

// Search: what does not hold all words is hidden; few matches are opened, and words are marked in what is open.
const FEW = 12;
const find = one("#find"), texts = new Map();
const textOf = node => texts.get(node) ?? texts.set(node, node.textContent.toLowerCase()).get(node);
function search() {
  const words = find.value.toLowerCase().split(/\s+/).filter(word => word.length > 1);
  const has = node => words.every(word => textOf(node).includes(word));
  const matches = [];
  for (const section of all("section")) {
    const title = has(section.querySelector("h2"));
    const folds = [...section.querySelectorAll(".fold")];
    for (const fold of folds) {
      fold.hidden = words.length > 0 && !title && !has(fold);
      if (!fold.hidden && words.length) matches.push(fold);
    }
    section.hidden = words.length > 0 && !title && folds.every(fold => fold.hidden) &&
      ![...section.querySelectorAll(".point")].some(has);
  }
  if (words.length) for (const fold of all(".fold")) fold.open = matches.length <= FEW && matches.includes(fold);
  one("#front").hidden = words.length > 0 && !has(one("#front"));
  one("#found").textContent = words.length ? `${matches.length} parts in ${all("section:not([hidden])").length} sections` : "";
  highlight(words);
}
function highlight(words) {
  if (!CSS.highlights) return;
  const ranges = [];
  const nodes = document.createTreeWalker(one("main"), NodeFilter.SHOW_TEXT);
  while (words.length && ranges.length < 2000 && nodes.nextNode()) {
    const text = nodes.currentNode.data.toLowerCase();
    for (const word of words) for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
      const range = new Range();
      range.setStart(nodes.currentNode, at);
      range.setEnd(nodes.currentNode, at + word.length);
      ranges.push(range);
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}
let waiting;
find.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 150); });
document.addEventListener("keydown", event => {
  if (event.key === "/" && !/INPUT|TEXTAREA/.test(event.target.tagName)) { event.preventDefault(); find.focus(); }
  if (event.key === "Escape" && event.target === find) { find.value = ""; search(); find.blur(); }
});

// A figure in full size.
for (const button of all(".zoom")) button.addEventListener("click", () => {
  const from = button.querySelector("img"), image = one("#big img");
  Object.assign(image, {src: from.currentSrc || from.src, alt: from.alt});
  image.style.width = `${Math.max(from.width, 1.4 * from.getAttribute("width"))}px`;
  one("#big").showModal();
});
one("#big").addEventListener("click", event => { if (event.target.id === "big") one("#big").close(); });

// Tables sort by a click on a column, and can be searched.
for (const table of all("main table")) {
  const body = table.tBodies[0], head = table.tHead?.rows[0];
  if (!head?.querySelector("button")) continue;
  const rows = [...body.rows];
  const value = (row, i) => {
    const cell = row.cells[i], text = cell.dataset.v ?? cell.textContent;
    return !head.cells[i].matches(".n") ? text : text === "" ? -Infinity : +text;
  };
  [...head.cells].forEach((cell, i) => cell.firstChild.addEventListener("click", () => {
    const down = cell.getAttribute("aria-sort") === "ascending";
    for (const other of head.cells) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.sort((a, b) => {
      const x = value(a, i), y = value(b, i);
      return (typeof x === "number" ? x - y || 0 : x.localeCompare(y, "en", {numeric: true})) * (down ? -1 : 1);
    });
    body.append(...rows);
  }));
  const words = table.closest("figure").querySelector("input");
  words?.addEventListener("input", () => {
    const asked = words.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !asked.every(word => row.textContent.toLowerCase().includes(word));
  });
}
