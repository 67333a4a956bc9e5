"use strict";
(() => {
  const PAGE = 50, COLOURS = 7, DASHES = 4, NS = "http://www.w3.org/2000/svg";
  const BECOMES = {
    black: "become black", mean: "become the image's mean colour", imagenet: "become ImageNet's mean colour",
    model_mean: "become the colour that the model takes for 0", blur: "are blurred", drop: "are left out",
  };
  const find = (id) => document.getElementById(id);
  const fields = ["group", "metric", "method", "other", "order", "search", "level"];
  const start = { view: "table", group: "0", metric: "", method: "", other: "", order: "name", search: "", level: "0", page: "0", image: "" };
  let state = { ...start }, groups = [], listed = [], drawing = 0;
  const cache = new Map();

  const make = (tag, text, more = {}) => {
    const part = document.createElement(tag);
    if (text !== undefined && text !== null) part.textContent = text;
    for (const [name, value] of Object.entries(more)) part.setAttribute(name, value);
    return part;
  };
  const fetched = (path, how) => {
    if (!cache.has(path)) {
      if (cache.size > 40) cache.delete(cache.keys().next().value);
      cache.set(path, fetch(path).then((reply) => {
        if (!reply.ok) throw new Error(`${path}: ${reply.status}`);
        return reply[how]();
      }));
    }
    return cache.get(path);
  };
  const base = () => `data/${state.group}`;
  const group = () => groups[Number(state.group)];
  const at = (list, name) => Math.max(0, list.findIndex((one) => one.name === name));
  const number = (value, digits = 2) => (value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits).replace("-", "−"));
  const scores = async (metric) => {
    const data = await fetched(`${base()}/${metric}.f32`, "arrayBuffer"), view = new DataView(data);
    const values = new Float32Array(data.byteLength / 4);
    for (let i = 0; i < values.length; i++) values[i] = view.getFloat32(4 * i, true);
    return values;
  };

  const address = (changes) => {
    const next = { ...state, ...changes }, words = new URLSearchParams();
    for (const [name, value] of Object.entries(next)) if (String(value) !== start[name]) words.set(name, value);
    return `#?${words}`;
  };
  const go = (changes, replace = false) => {
    const hash = address(changes);
    if (replace) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
    return show();
  };
  const read = () => {
    const words = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
    state = { ...start };
    for (const name of Object.keys(start)) if (words.has(name)) state[name] = words.get(name);
    if (!groups[Number(state.group)]) state.group = "0";
  };

  const options = (id, list, chosen, none) => {
    const field = find(id);
    field.replaceChildren(...(none ? [make("option", none, { value: "" })] : []),
      ...list.map((one) => make("option", one.label, { value: one.name })));
    field.value = list.some((one) => one.name === chosen) ? chosen : none ? "" : (list[0] || {}).name;
  };
  const controls = () => {
    const here = group();
    find("group").value = state.group;
    options("metric", here.metrics, state.metric);
    options("method", here.methods, state.method);
    options("other", here.methods, state.other, "no other");
    for (const name of ["order", "search", "level"]) find(name).value = state[name];
    for (const part of document.querySelectorAll(".in-images")) part.hidden = state.view === "table";
    for (const name of ["table", "images", "image"]) find(name).hidden = state.view !== name;
    find("to-table").href = address({ view: "table", image: "" });
    find("to-images").href = address({ view: "images", image: "" });
    for (const name of ["table", "images"]) {
      if (state.view === name) find(`to-${name}`).setAttribute("aria-current", "page");
      else find(`to-${name}`).removeAttribute("aria-current");
    }
    find("about").textContent = `${here.folder}: ${here.model} on ${here.dataset}, protocol ${here.protocol} · ` +
      `${here.images.toLocaleString("en")} images, ${here.methods.length} methods, ${here.metrics.length} metrics, ` +
      `${here.pictures.toLocaleString("en")} with pictures`;
  };
  const arrow = (metric) => ({ higher: " ↑", lower: " ↓" }[metric.kind] || "");

  const table = () => {
    const here = group(), head = make("tr"), body = find("table").querySelector("tbody");
    head.append(make("th", "Method", { scope: "col" }), ...here.metrics.map((m) => make("th", m.label + arrow(m), { scope: "col" })));
    find("table").querySelector("thead").replaceChildren(head);
    const wanted = state.search.toLowerCase();
    const rows = here.methods.map((method, k) => {
      const row = make("tr", null, { class: { proposed: "ours", control: "control" }[method.kind] || "" });
      row.append(make("th", method.label, { scope: "row" }));
      here.metrics.forEach((metric, m) => {
        const cell = make("td"), mean = here.means[m][k];
        if (mean === null) cell.textContent = "–";
        else cell.append(make("a", number(mean), { href: address({ view: "images", method: method.name, metric: metric.name, order: "worst", search: "", page: "0" }),
          title: `n = ${here.counts[m][k]}` }));
        row.append(cell);
      });
      return `${method.name} ${method.label}`.toLowerCase().includes(wanted) ? row : null;
    }).filter(Boolean);
    body.replaceChildren(...rows);
    find("shown").textContent = `${rows.length} ${rows.length === 1 ? "method" : "methods"}`;
  };

  const ordered = async () => {
    const here = group(), names = await fetched(`${base()}/images.json`, "json");
    const m = at(here.metrics, state.metric), k = at(here.methods, state.method), o = here.methods.findIndex((one) => one.name === state.other);
    const values = await scores(m), n = names.length, own = (i) => values[k * n + i];
    const apart = (i) => (o < 0 ? NaN : Math.abs(own(i) - values[o * n + i]));
    const wanted = state.search.toLowerCase();
    const places = [];
    for (let i = 0; i < n; i++) if (!wanted || names[i].toLowerCase().includes(wanted)) places.push(i);
    const sign = here.metrics[m].kind === "lower" ? -1 : 1;
    const key = { worst: (i) => sign * own(i), best: (i) => -sign * own(i), apart: (i) => -apart(i) }[state.order];
    if (key) {
      const keys = new Map(places.map((i) => [i, key(i)])), last = (x) => (Number.isNaN(x) ? Infinity : x);
      places.sort((a, b) => last(keys.get(a)) - last(keys.get(b)) || a - b);
    }
    return { names, places, own, second: o < 0 ? null : (i) => values[o * n + i], apart };
  };

  const images = async (mine) => {
    const here = group(), found = await ordered(), pictures = await fetched(`${base()}/pictures.json`, "json");
    if (mine !== drawing) return;
    listed = found.places;
    const last = Math.max(0, Math.ceil(listed.length / PAGE) - 1), page = Math.min(Math.max(0, Number(state.page) || 0), last);
    const method = here.methods[at(here.methods, state.method)], metric = here.metrics[at(here.metrics, state.metric)];
    const other = here.methods.find((one) => one.name === state.other), head = make("tr");
    head.append(make("th", "Image", { scope: "col" }), make("th", `${method.label}: ${metric.label}${arrow(metric)}`, { scope: "col" }));
    if (other) head.append(make("th", other.label, { scope: "col" }), make("th", "apart", { scope: "col" }));
    find("images").querySelector("thead").replaceChildren(head);
    find("images").querySelector("tbody").replaceChildren(...listed.slice(page * PAGE, (page + 1) * PAGE).map((i) => {
      const row = make("tr"), name = make("td"), link = make("a", null, { href: address({ view: "image", image: i }) });
      if (pictures[i]) link.append(make("img", null, { class: "thumb", src: `${base()}/${i}/thumb.webp`, alt: "", loading: "lazy", decoding: "async" }));
      link.append(found.names[i]);
      name.append(link);
      row.append(name, make("td", number(found.own(i))));
      if (other) row.append(make("td", number(found.second(i))), make("td", number(found.apart(i))));
      return row;
    }));
    find("page").textContent = `${listed.length ? page * PAGE + 1 : 0} to ${Math.min(listed.length, (page + 1) * PAGE)} of ${listed.length.toLocaleString("en")}`;
    find("before").disabled = page === 0;
    find("after").disabled = page === last;
    find("shown").textContent = `${listed.length.toLocaleString("en")} images`;
  };

  const picture = (path) => new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => resolve(null);
    image.src = path;
  });
  const pixels = (image) => {
    const canvas = make("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  };
  let masks = [];
  const mask = () => {
    const level = Number(find("level").value), limit = 256 * level / 100;
    find("share").textContent = `${level} %`;
    for (const { canvas, heat, photo, places, fill } of masks) {
      const context = canvas.getContext("2d", { willReadFrequently: true });
      if (!level || !places) {
        context.drawImage(heat, 0, 0, canvas.width, canvas.height);
        continue;
      }
      const data = new Uint8ClampedArray(photo.data);
      for (let p = 0; p < data.length; p += 4) {
        if (places.data[p] >= limit) continue;
        if (fill) data.set(fill.data.subarray(p, p + 3), p);
        else data[p + 3] = 0;
      }
      context.putImageData(new ImageData(data, photo.width, photo.height), 0, 0);
    }
  };
  const maps = async (mine, about, place) => {
    const here = group(), path = `${base()}/${place}`, photo = await picture(`${path}/photo.webp`);
    if (!photo || mine !== drawing) return;
    const shown = [make("figure")], size = pixels(photo), found = [];
    const left = here.fill === "drop" ? null : await picture(`${path}/fill.png`);
    if (mine !== drawing) return;
    const fill = left && left.naturalWidth === photo.naturalWidth && left.naturalHeight === photo.naturalHeight ? pixels(left) : null;
    find("becomes").textContent = BECOMES[here.fill] || "";
    shown[0].append(photo, make("figcaption", "photo"));
    photo.alt = "the photo";
    for (const k of about.maps) {
      const [heat, order] = await Promise.all([picture(`${path}/heat-${k}.webp`), picture(`${path}/order-${k}.png`)]);
      if (mine !== drawing) return;
      if (!heat) continue;
      const name = here.methods[k].name, canvas = make("canvas", null, { role: "img", "aria-label": `map of ${here.methods[k].label}` });
      canvas.width = photo.naturalWidth;
      canvas.height = photo.naturalHeight;
      const figure = make("figure", null, { class: [state.method, state.other].includes(name) ? "chosen" : "", "data-method": name });
      figure.append(canvas, make("figcaption", here.methods[k].label));
      const places = order && order.naturalWidth === photo.naturalWidth && order.naturalHeight === photo.naturalHeight ? pixels(order) : null;
      found.push({ canvas, heat, photo: size, places, fill });
      shown.push(figure);
    }
    masks = found;
    find("maps").replaceChildren(...shown);
    mask();
  };

  const part = (tag, attributes) => {
    const made = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const coloured = (line, method) => {
    if (/^#[0-9a-f]{6}$/i.test(method.colour)) line.style.setProperty("--c", method.colour);
    return line;
  };
  const chart = (metric, rows) => {
    const here = group(), lines = [], W = 360, H = 230, L = 38, R = 8, T = 10, B = 24;
    here.methods.forEach((method, k) => {
      const row = (rows[method.name] || {})[metric.name];
      if (row && row.curve.filter((y) => y !== null).length > 1) lines.push([k, row.curve]);
    });
    if (!lines.length) return null;
    const every = lines.flatMap(([, curve]) => curve).filter((y) => y !== null);
    const low = Math.min(0, ...every), high = Math.max(1, ...every), svg = part("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
    svg.setAttribute("aria-label", `curves of ${metric.label}`);
    const y = (v) => T + (H - T - B) * (high - v) / ((high - low) || 1);
    for (const tick of [low, (low + high) / 2, high]) {
      svg.append(part("path", { class: "grid", d: `M${L} ${y(tick).toFixed(1)}H${W - R}` }));
      const text = part("text", { x: L - 5, y: y(tick) + 4, "text-anchor": "end" });
      text.textContent = number(tick);
      svg.append(text);
    }
    for (const [k, curve] of lines) {
      const points = curve.map((v, i) => (v === null ? null : `${(L + (W - L - R) * i / (curve.length - 1)).toFixed(1)},${y(v).toFixed(1)}`)).filter(Boolean);
      const line = part("g", { class: `curve k${k % COLOURS} d${Math.floor(k / COLOURS) % DASHES}${here.methods[k].kind === "proposed" ? " ours" : ""}`, "data-method": here.methods[k].name });
      line.append(part("path", { d: `M${points.join(" ")}` }));
      svg.append(coloured(line, here.methods[k]));
    }
    const figure = make("figure", null, { class: "panel" });
    figure.append(make("figcaption", metric.label), svg);
    return figure;
  };

  const image = async (mine) => {
    const here = group(), place = Number(state.image), [names, pictures] = await Promise.all([
      fetched(`${base()}/images.json`, "json"), fetched(`${base()}/pictures.json`, "json")]);
    if (mine !== drawing) return;
    if (!(place in names)) return go({ view: "images", image: "" }, true);
    const about = pictures[place];
    find("title").textContent = names[place];
    find("explained").textContent = about && about.explained ? `explained: ${about.explained}, p = ${number(about.probability)}` : "";
    find("pictures").hidden = !about;
    find("bare").hidden = Boolean(about);
    find("maps").replaceChildren();
    masks = [];
    const [rows, ...values] = await Promise.all([fetched(`${base()}/rows/${Math.floor(place / here.chunk)}.json`, "json"),
      ...here.metrics.map((_, m) => scores(m))]);
    if (mine !== drawing) return;
    const own = rows[names[place]] || {}, head = make("tr"), sheet = find("image").querySelector("table");
    head.append(make("th", "Method", { scope: "col" }), ...here.metrics.map((m) => make("th", m.label + arrow(m), { scope: "col" })));
    sheet.tHead.replaceChildren(head);
    sheet.tBodies[0].replaceChildren(...here.methods.map((method, k) => {
      const row = make("tr", null, { class: { proposed: "ours", control: "control" }[method.kind] || "" });
      row.append(make("th", method.label, { scope: "row" }), ...here.metrics.map((metric, m) => {
        const why = ((own[method.name] || {})[metric.name] || {}).reason || "";
        return make("td", number(values[m][k * names.length + place]), why ? { title: why } : {});
      }));
      return row;
    }));
    find("legend").replaceChildren(...here.methods.map((method, k) => {
      const label = make("label"), box = make("input", null, { type: "checkbox" }), svg = part("svg", { viewBox: "0 0 26 10" });
      const line = part("g", { class: `curve k${k % COLOURS} d${Math.floor(k / COLOURS) % DASHES}` });
      line.append(part("path", { d: "M1 5H25" }));
      svg.append(coloured(line, method));
      box.checked = true;
      box.addEventListener("change", () => {
        for (const drawn of find("curves").querySelectorAll("g[data-method]")) {
          if (drawn.dataset.method === method.name) drawn.classList.toggle("hidden", !box.checked);
        }
      });
      label.append(box, svg, method.label);
      return label;
    }));
    find("curves").replaceChildren(...here.metrics.map((metric) => chart(metric, own)).filter(Boolean));
    find("shown").textContent = "";
    if (about) await maps(mine, about, place);
    document.body.dataset.ready = String(place);
  };

  const show = async () => {
    const mine = ++drawing;
    delete document.body.dataset.ready;
    read();
    controls();
    try {
      if (state.view === "table") table();
      else if (state.view === "images") await images(mine);
      else await image(mine);
      if (mine === drawing && state.view !== "image") document.body.dataset.ready = state.view;
    } catch (error) {
      find("about").textContent = `cannot be shown: ${error.message}`;
    }
  };
  const step = async (by) => {
    if (!listed.length) listed = (await ordered()).places;
    const next = listed[listed.indexOf(Number(state.image)) + by];
    if (next !== undefined) go({ image: next });
  };

  for (const name of fields) {
    find(name).addEventListener("input", () => {
      if (name === "level") {
        mask();
        history.replaceState(null, "", address({ level: find("level").value }));
        state.level = find("level").value;
        return;
      }
      const more = name === "group" ? { image: "", metric: "", method: "", other: "", view: state.view === "image" ? "images" : state.view } : {};
      listed = [];
      go({ [name]: find(name).value, page: "0", ...more }, name === "search");
    });
  }
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  find("before").addEventListener("click", () => go({ page: Number(state.page) - 1 }));
  find("after").addEventListener("click", () => go({ page: Number(state.page) + 1 }));
  find("previous").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));
  find("back").addEventListener("click", () => go({ view: "images", image: "" }));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const writing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "Escape") {
      if (writing) document.activeElement.blur();
      else if (state.view === "image") go({ view: "images", image: "" });
    } else if (!writing && event.key === "/") {
      event.preventDefault();
      find("search").focus();
    } else if (!writing && state.view === "image" && "jk".includes(event.key)) {
      step(event.key === "j" ? 1 : -1);
    }
  });
  window.addEventListener("popstate", show);
  fetched("data/index.json", "json").then((found) => {
    groups = found;
    find("group").replaceChildren(...groups.map((one, k) => make("option", `${one.folder}: ${one.model} · ${one.dataset} · ${one.protocol}`, { value: k })));
    return show();
  }).catch((error) => { find("about").textContent = `cannot be shown: ${error.message}`; });
})();
