// Returns what is wrong with the page, one line each: what a reader who sees
// little, hears the page, or has no mouse would stumble over.
(() => {
  const wrong = [];
  const say = (text, node) => wrong.push(text + (node ? `: ${node.outerHTML.slice(0, 160)}` : ""));
  const all = (selector) => [...document.querySelectorAll(selector)];
  const name = (node) => {
    const by = node.getAttribute("aria-labelledby");
    if (by) return by.split(/\s+/).map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim();
    return (node.getAttribute("aria-label") || node.textContent || node.getAttribute("title") || "").trim();
  };
  const shown = (node) => {
    const box = node.getBoundingClientRect();
    const style = getComputedStyle(node);
    return box.width > 1 && box.height > 1 && style.visibility !== "hidden" && node.checkVisibility();
  };

  // Structure
  if (!document.documentElement.lang) say("no language");
  if (!document.title.trim()) say("no title");
  for (const part of ["main", "header", "footer", "nav[aria-label]"]) if (!document.querySelector(part)) say(`no ${part}`);
  if (all("main").length !== 1) say("not one main");
  if (all("h1").length !== 1) say(`${all("h1").length} h1`);
  let level = 1;
  for (const h of all("main h1, main h2, main h3, main h4")) {
    const next = Number(h.tagName[1]);
    if (next > level + 1) say(`heading skips from ${level} to ${next}`, h);
    level = next;
  }
  const ids = all("[id]").map((node) => node.id);
  for (const id of new Set(ids)) if (ids.indexOf(id) !== ids.lastIndexOf(id)) say(`id ${id} twice`);
  for (const node of all("[aria-labelledby]")) if (!name(node)) say("aria-labelledby leads nowhere", node);
  for (const node of all("a, button, summary")) if (!name(node)) say("no name", node);
  for (const node of all("input, select, textarea")) if (!node.labels?.length || !name(node.labels[0])) say("no label", node);
  for (const node of all("progress, [role=img], [role=region], nav, section, article")) if (!name(node)) say("no name", node);
  for (const node of all("svg")) if (!node.closest("[aria-hidden=true]")) say("a drawing is read out", node);
  for (const node of all("table")) {
    if (!node.caption?.textContent.trim()) say("table without a caption", node);
    for (const cell of node.querySelectorAll("th")) if (!cell.scope) say("th without a scope", cell);
    if (!node.querySelector("th[scope=row], tr td[colspan]")) say("table without row headers", node);
  }
  for (const node of all("[tabindex]")) if (node.tabIndex > 0) say("tabindex above zero", node);
  if (!document.querySelector("[aria-live], [role=status]") && document.body.dataset.liveFrom) say("nothing is read out when it changes");

  // Labels of charts, by the room that their texts take
  for (const labels of all(".chart .left, .chart .below")) {
    let last;
    for (const label of labels.children) {
      if (getComputedStyle(label).visibility === "hidden") continue;
      const range = document.createRange();
      range.selectNodeContents(label);
      const box = range.getBoundingClientRect();
      if (last && box.left < last.right + 2 && box.top < last.bottom - 2) say("labels overlap", label);
      if (box.right > innerWidth) say("a label is outside", label);
      last = box;
    }
  }

  // Contrast, as WCAG 2 defines it
  const channels = (text) => {
    const canvas = channels.canvas ??= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return { r, g, b, a: a / 255 };
  };
  const over = (top, below) => ({
    r: top.r * top.a + below.r * (1 - top.a), g: top.g * top.a + below.g * (1 - top.a), b: top.b * top.a + below.b * (1 - top.a), a: 1,
  });
  const luminance = ({ r, g, b }) => {
    const f = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
  };
  const ratio = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const ground = (node) => {
    const layers = [];
    for (let n = node; n; n = n.parentElement) layers.push(channels(getComputedStyle(n).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), { r: 255, g: 255, b: 255, a: 1 });
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || !shown(node) || node.closest("option, script, noscript")) continue;
    const style = getComputedStyle(node);
    const ink = channels(node.closest("svg") ? style.fill : style.color);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const below = ground(node);
    const is = ratio(over(ink, below), below);
    texts++;
    if (is < (large ? 3 : 4.5)) say(`contrast ${is.toFixed(2)}`, node);
  }
  if (texts < 10) say(`only ${texts} texts`);
  for (const node of all("input[placeholder]")) {
    const is = ratio(channels(getComputedStyle(node, "::placeholder").color), ground(node));
    if (is < 4.5) say(`placeholder's contrast ${is.toFixed(2)}`, node);
  }
  // What is drawn means something at 3 : 1
  for (const node of all(".chart .mark, .level .fill, .gauge .fill, .dot, .lamp")) {
    if (!shown(node) && !node.closest("svg")) continue;
    const style = getComputedStyle(node);
    const paint = node.closest("svg") ? (style.fill === "none" ? style.stroke : style.fill) : style.backgroundColor;
    const ink = channels(paint);
    const below = ground(node.closest("svg") ?? node.parentElement);
    if (ink.a > 0 && ratio(over(ink, below), below) < 3) say(`drawing's contrast ${ratio(over(ink, below), below).toFixed(2)}`, node);
  }
  for (const node of all("input, select, button")) {
    if (shown(node) && ratio(channels(getComputedStyle(node).borderTopColor), ground(node.parentElement)) < 3 && node.type !== "checkbox") say("border is hard to see", node);
  }

  // Room
  if (document.documentElement.scrollWidth > innerWidth) say(`page is ${document.documentElement.scrollWidth} wide in ${innerWidth}`);
  for (const node of all("nav a, button, input, select, summary")) {
    const box = node.getBoundingClientRect();
    if (shown(node) && (box.height < 17 || box.width < 17)) say(`only ${box.width} by ${box.height}`, node);
  }
  return wrong;
})()
