"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const CLASSES = ["persists", "lost", "disposable", "orphaned"];
  const TITLES = { persists: "persists", lost: "would be gone", disposable: "throw-away", orphaned: "named by no entry" };
  const REST = 5, FILES = 4;
  const SHOWN = 300;

  // A node: a directory or file of the page, with sums.
  const nodes = data.nodes.map(([above, name, cls, kind, size, files, time, owner, unit, remark, frame, item]) => ({
    above, name, cls: cls ?? -1, kind: (kind ?? 0) % 10, part: kind >= 10, own: size ?? 0, files: files ?? 0, time: time ?? 0,
    owner: data.words[owner ?? 0], unit: data.words[unit ?? 0], remark: data.words[remark ?? 0],
    keep: item === undefined ? "" : data.about.frames[frame][0] + item + data.about.frames[frame][1],
    below: [],
  }));
  const root = nodes[0];
  nodes.forEach((node, index) => {
    node.index = index;
    node.above = index ? nodes[node.above] : null;
    if (index) node.above.below.push(node);
  });
  // Numbers of each class, for the content of a node.
  for (const node of nodes) {
    node.sums = [0, 0, 0, 0];
    node.counts = [0, 0, 0, 0];
  }
  for (const node of nodes) {
    if (node.cls < 0 || node.part) continue;
    for (let at = node; at; at = at.above) {
      at.sums[node.cls] += node.own;
      at.counts[node.cls] += node.files;
    }
  }
  // The line of a part has counted it.
  for (const node of nodes.filter((node) => node.part)) {
    node.sums[node.cls] += node.own;
    node.counts[node.cls] += node.files;
  }
  // A directory without numbers has the newest change of its content.
  for (let index = nodes.length - 1; index > 0; index--) {
    const { above, time } = nodes[index];
    above.time = Math.max(above.time, time);
  }

  const shownClasses = [true, true, true, true];
  const total = (node) => node.sums.reduce((sum, size, cls) => sum + (shownClasses[cls] ? size : 0), 0);
  const count = (node) => node.counts.reduce((sum, files, cls) => sum + (shownClasses[cls] ? files : 0), 0);
  const main = (node) => {
    let best = node.cls < 0 ? 0 : node.cls;
    node.sums.forEach((size, cls) => { if (shownClasses[cls] && (size > node.sums[best] || !shownClasses[best])) best = cls; });
    return best;
  };
  const isFolder = (node) => node.below.length > 0;
  const path = (node) => {
    if (node.label !== undefined) return node.label;
    const names = [];
    for (let at = node; at && at.above; at = at.above) names.unshift(at.name);
    return "/" + names.join("/") + (node.kind === 0 && names.length ? "/" : "");
  };

  const size = (bytes) => {
    if (bytes < 1024) return bytes ? bytes + "B" : "0";
    let unit = 1024;
    for (const letter of "KMGTPE") {
      const tenths = Math.ceil((bytes * 10) / unit);
      if (tenths < 100) return (tenths / 10).toFixed(1) + letter;
      const whole = Math.ceil(bytes / unit);
      if (whole < 1024 || letter === "E") return whole + letter;
      unit *= 1024;
    }
  };
  const number = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
  const age = (then) => {
    if (!then) return "";
    const past = data.about.made - then;
    for (const [length, one, many] of [[31536000, " year", " years"], [2592000, " month", " months"], [86400, " day", " days"], [3600, " h", " h"], [60, " min", " min"]]) {
      const units = Math.floor(past / length);
      if (units >= 1) return units + (units === 1 ? one : many);
    }
    return "now";
  };
  const element = (tag, cls, text) => {
    const made = document.createElement(tag);
    if (cls) made.className = cls;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const button = (cls, text, click) => {
    const made = element("button", cls, text);
    made.type = "button";
    made.addEventListener("click", click);
    return made;
  };

  // A line with its parts, without the lines inside: these are in their own groups.
  const alone = (node, cls) => {
    const below = node.below.filter((one) => one.cls < 0 || (one.part && one.cls === cls)).map((one) => alone(one, cls));
    const made = { ...node, real: node, below, sums: [0, 0, 0, 0], counts: [0, 0, 0, 0] };
    for (const [own, files] of node.cls < 0 ? below.map((one) => [one.sums[cls], one.counts[cls]]) : [[node.own, node.files]]) {
      made.sums[cls] += own;
      made.counts[cls] += files;
    }
    return made;
  };
  // Groups of all lines by a property.
  const grouped = (title, of) => {
    const top = { name: title, label: title, cls: -1, kind: 0, own: 0, sums: [0, 0, 0, 0], counts: [0, 0, 0, 0], time: 0, below: [], owner: "", unit: "", remark: "", keep: "" };
    const groups = new Map();
    for (const node of nodes) {
      if (node.cls < 0 || node.part) continue;
      const name = node.kind === REST ? "smaller ones" : of(node) || "unknown";
      let group = groups.get(name);
      if (!group) {
        group = { ...top, name, label: name, above: top, sums: [0, 0, 0, 0], counts: [0, 0, 0, 0], below: [] };
        groups.set(name, group);
        top.below.push(group);
      }
      group.below.push({ ...alone(node, node.cls), name: path(node), label: path(node), above: group });
      for (const at of [group, top]) {
        at.sums[node.cls] += node.own;
        at.counts[node.cls] += node.files;
        at.time = Math.max(at.time, node.time);
      }
    }
    return top;
  };
  const views = { path: root, owner: grouped("All owners", (node) => node.owner), unit: grouped("All units", (node) => node.unit) };

  let by = "path", at = root, words = "", order = "size", down = true, chosen = null;

  // Parts of a node: its children, and the rest of its own.
  const parts = (node) => {
    const list = node.below.filter((one) => total(one) > 0);
    if (node.cls >= 0 && shownClasses[node.cls] && list.length) {
      const inside = (one) => one.below.reduce((sum, next) => sum + (next.part && next.cls === node.cls ? next.own : next.cls < 0 ? inside(next) : 0), 0);
      const left = node.own - inside(node);
      if (left > 0) {
        const sums = [0, 0, 0, 0];
        sums[node.cls] = left;
        list.push({ ...node, name: "smaller ones", label: "smaller ones in " + path(node), kind: REST, above: node, sums, counts: [0, 0, 0, 0], below: [], keep: "", remark: "", part: true });
      }
    }
    return list;
  };

  const go = (node) => {
    node = node.real ?? node;
    if (!isFolder(node)) {
      chosen = node;
      node = node.above;
    } else {
      chosen = null;
    }
    if (nodes.includes(node)) by = "path";
    const from = at, isFocused = [tiles, body, crumbs].some((one) => one.contains(document.activeElement));
    if (node !== at) {
      at = node;
      words = "";
      search.value = "";
    }
    const address = by === "path" && at !== root ? "#" + at.index : " ";
    if (location.hash !== address.trim()) history.pushState(null, "", address === " " ? location.href.split("#")[0] : address);
    draw();
    // The button with the focus is gone.
    const made = [...tiles.querySelectorAll(REACHED)];
    if (isFocused) reach(made.find((one) => one.node === from) ?? made[0]);
  };

  // The map is one stop for the Tab key; arrows go through its tiles.
  const REACHED = ".tile:not(.rest)";
  const reach = (to) => {
    if (!to) return;
    for (const one of tiles.querySelectorAll(REACHED)) one.tabIndex = one === to ? 0 : -1;
    to.focus();
  };

  // The rectangles of a squarified treemap.
  const divide = (list, x, y, width, height) => {
    const sum = list.reduce((all, one) => all + one.value, 0);
    const placed = [];
    let index = 0, rest = sum;
    while (index < list.length && width > 0.5 && height > 0.5) {
      const side = Math.min(width, height), scale = (width * height) / rest;
      let row = 0, end = index, worst = Infinity;
      while (end < list.length) {
        const next = row + list[end].value;
        const thick = (next * scale) / side;
        let ratio = 0;
        for (const one of [list[index], list[end]]) {
          const long = (one.value * scale) / thick;
          ratio = Math.max(ratio, long / thick, thick / long);
        }
        if (ratio > worst) break;
        worst = ratio;
        row = next;
        end++;
      }
      const thick = (row * scale) / side;
      let along = 0;
      for (; index < end; index++) {
        const long = (list[index].value * scale) / thick;
        placed.push(width >= height
          ? { ...list[index], x, y: y + along, width: thick, height: long }
          : { ...list[index], x: x + along, y, width: long, height: thick });
        along += long;
      }
      if (width >= height) { x += thick; width -= thick; } else { y += thick; height -= thick; }
      rest -= row;
    }
    return placed;
  };

  // The colour of a class, or the shares of several.
  const paint = (made, node) => {
    const sum = total(node);
    const classes = CLASSES.filter((_, cls) => shownClasses[cls] && node.sums[cls] > 0);
    if (classes.length < 2 || !sum) return;
    let end = 0;
    const stops = classes.map((cls) => {
      const start = end;
      end += (100 * node.sums[CLASSES.indexOf(cls)]) / sum;
      return `var(--${cls}) ${start}% ${end}%`;
    });
    made.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  };
  const tile = (node, box, depth) => {
    if (box.width < 3 || box.height < 3) return;
    const list = parts(node);
    const opens = list.length > 0 && depth < 6 && box.width > 74 && box.height > 52;
    const cls = CLASSES[main(node)];
    const isRest = node.kind === REST;
    const made = button(`tile ${cls} ${opens ? "folder" : "leaf"}${isRest ? " rest" : ""}${box.width > 16 && box.height > 10 ? "" : " tiny"}`, "", () => { if (!isRest) go(node); });
    made.style.left = box.x + 1 + "px";
    made.style.top = box.y + 1 + "px";
    made.style.width = box.width - 2 + "px";
    made.style.height = box.height - 2 + "px";
    if (!opens) paint(made, node);
    const said = `${path(node)}\n${size(total(node))}, ${TITLES[cls]}${node.unit ? "\n" + node.unit : ""}`;
    made.title = said;
    made.setAttribute("aria-label", said.replaceAll("\n", ", "));
    made.node = node;
    made.tabIndex = tiles.querySelector(REACHED) || isRest ? -1 : 0;
    if (box.width > 34 && box.height > 18) {
      const name = element("span", "", isRest ? "smaller ones" : node.name + (isFolder(node) && !node.label ? "/" : ""));
      if (opens) name.textContent += "  " + size(total(node));
      made.append(name);
      if (!opens && box.height > 34 && box.width > 48) made.append(element("span", "of", size(total(node))));
    }
    tiles.append(made);
    if (opens) place(list, box.x + 4, box.y + 21, box.width - 8, box.height - 25, depth + 1);
  };
  const place = (list, x, y, width, height, depth) => {
    const values = list.map((node) => ({ node, value: total(node) })).sort((a, b) => b.value - a.value);
    for (const box of divide(values, x, y, width, height)) tile(box.node, box, depth);
  };

  // In a list of lines each is counted without the lines below, as these are in the list, too.
  const isAlone = (node) => node.cls >= 0 && node.label === undefined && (at.cls < 0 || words !== "");
  const amount = (node) => (isAlone(node) ? node.own : total(node));
  const files = (node) => (isAlone(node) ? node.files : count(node));
  const COLUMNS = [
    ["size", "Size", amount, true], ["files", "Files", files, true], ["time", "Changed", (node) => node.time, true],
    ["owner", "Owner", (node) => node.owner, false], ["name", "Path", (node) => path(node), false],
  ];
  const found = () => {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    // Parts of a line; elsewhere the lines, in any directory.
    if (!wanted.length && (at.cls >= 0 || by !== "path")) return parts(at);
    const all = [];
    const waiting = [...at.below];
    while (waiting.length) {
      const node = waiting.pop();
      if (node.cls >= 0 && shownClasses[node.cls] && (wanted.length ? node.kind !== REST : !node.part)) {
        const text = `${path(node)} ${node.owner} ${node.unit} ${node.remark} ${TITLES[CLASSES[node.cls]]}`.toLowerCase();
        if (wanted.every((word) => text.includes(word))) all.push(node);
      }
      if (!node.real) waiting.push(...node.below);
    }
    return all;
  };

  const line = (node) => {
    const row = element("tr", CLASSES[main(node)] + (chosen && node === chosen ? " chosen" : ""));
    const isSum = node.cls < 0;
    row.append(element("td", "number", size(amount(node))), element("td", "number", files(node) ? number(files(node)) : ""));
    row.append(element("td", "number", node.kind === REST ? "" : age(node.time)), element("td", "owner", node.owner));
    const cell = element("td", "path");
    const dot = element("span", "dot");
    paint(dot, node);
    cell.append(dot);
    const text = at.cls < 0 || words ? path(node) : node.name + (node.kind === 0 ? "/" : "");
    cell.append(isFolder(node) && node.kind !== REST ? button("go", text, () => go(node)) : element("span", "name", text));
    const said = [isSum ? "" : TITLES[CLASSES[node.cls]], node.unit, node.remark].filter(Boolean).join("; ");
    if (said) cell.append(element("span", "remark", said));
    if (node.keep) {
      cell.append(copied(element("code", "keep", node.keep)));
    }
    row.append(cell);
    return row;
  };
  const copied = (keep) => {
    keep.title = "Click to copy";
    keep.tabIndex = 0;
    keep.setAttribute("role", "button");
    keep.classList.add("copies");
    keep.addEventListener("click", () => copy(keep));
    keep.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        copy(keep);
      }
    });
    return keep;
  };
  const copy = (keep) => {
    getSelection().selectAllChildren(keep);
    const done = () => { keep.classList.add("copied"); keep.title = "Copied"; };
    if (navigator.clipboard) navigator.clipboard.writeText(keep.textContent).then(done, () => {});
    else if (document.execCommand("copy")) done();
  };

  const draw = () => {
    for (const one of tools.querySelectorAll(".by button")) one.setAttribute("aria-pressed", String(one.value === by));
    crumbs.replaceChildren();
    const way = [];
    for (let node = at; node; node = node.above) way.unshift(node);
    way.forEach((node, index) => {
      const name = node.label ?? (index ? node.name + "/" : "/");
      crumbs.append(node === at ? element("b", "", name) : button("", name, () => go(node)));
    });
    crumbs.append(element("span", "size", `${size(total(at))} in ${number(count(at))} ${count(at) === 1 ? "file" : "files"}`));

    // The results of a search are at the top.
    tiles.hidden = words !== "";
    tiles.replaceChildren();
    const list = parts(at);
    if (list.length) place(list, 0, 0, tiles.clientWidth, tiles.clientHeight, 1);
    else tiles.append(element("p", "empty", "Nothing of these."));

    const [, , value] = COLUMNS.find(([name]) => name === order);
    const rows = found().sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const first = x < y ? -1 : x > y ? 1 : 0;
      return (down ? -first : first) || (path(a) < path(b) ? -1 : 1);
    });
    body.replaceChildren(...rows.slice(0, SHOWN).map(line));
    more.hidden = rows.length > 0 && rows.length <= SHOWN;
    more.textContent = rows.length ? `${number(rows.length - SHOWN)} more` : "Nothing found.";
    for (const head of heads) {
      if (head.dataset.order === order) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  };

  // The page outside the map.
  const map = document.getElementById("map");
  const tools = element("div");
  tools.id = "tools";
  const choice = element("div", "by");
  for (const [value, title] of [["path", "By path"], ["owner", "By owner"], ["unit", "By unit"]]) {
    const one = button("", title, () => { by = value; at = null; go(views[value]); });
    one.value = value;
    choice.append(one);
  }
  const search = element("input");
  search.id = "search";
  search.type = "search";
  search.placeholder = "Search paths, owners, units";
  search.setAttribute("aria-label", search.placeholder);
  search.addEventListener("input", () => { words = search.value; chosen = null; draw(); });
  tools.append(choice, search);
  const crumbs = element("nav");
  crumbs.id = "crumbs";
  crumbs.setAttribute("aria-label", "Place");
  const tiles = element("div");
  tiles.id = "tiles";
  tiles.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const made = [...tiles.querySelectorAll(REACHED)];
    const next = step && made[made.indexOf(document.activeElement) + step];
    if (next) {
      event.preventDefault();
      reach(next);
    }
  });
  const listed = element("section", "listed");
  const table = element("table", "paths");
  table.id = "list";
  const header = element("tr");
  const heads = COLUMNS.map(([name, title, , isNumber]) => {
    const head = element("th", isNumber ? "number" : "");
    head.dataset.order = name;
    head.append(button("", title, () => {
      down = order === name ? !down : isNumber;
      order = name;
      draw();
    }));
    return head;
  });
  header.append(...heads);
  const thead = element("thead");
  thead.append(header);
  const body = element("tbody");
  table.append(thead, body);
  const more = element("p", "more");
  listed.append(table, more);
  map.append(tools, crumbs, tiles, listed);

  CLASSES.forEach((cls, index) => {
    const card = document.querySelector(`#classes .${cls}`);
    const toggle = button("", undefined, () => {
      shownClasses[index] = !shownClasses[index];
      toggle.setAttribute("aria-pressed", String(shownClasses[index]));
      draw();
    });
    toggle.setAttribute("aria-pressed", "true");
    toggle.title = "Show or hide";
    toggle.append(...card.childNodes);
    card.append(toggle);
    card.classList.add("choice");
  });
  const restore = () => {
    by = "path";
    at = nodes[Number(location.hash.slice(1))] ?? root;
    if (!isFolder(at)) at = root;
    chosen = null;
    draw();
  };
  addEventListener("popstate", restore);
  addEventListener("resize", draw);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && words) { search.value = words = ""; draw(); }
    else if (event.key === "Escape" && at.above) go(at.above);
    else if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.focus(); }
  });
  document.querySelectorAll("#roots .keep").forEach(copied);
  document.getElementById("plain").hidden = true;
  map.hidden = false;
  restore();
})();
