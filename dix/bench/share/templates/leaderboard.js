(() => {
  const form = document.querySelector("form.filters"), shown = document.querySelector("#shown");
  const field = (name) => document.querySelector(`#${name}`);
  const boxes = [...form.querySelectorAll("input[name=badge]")];
  const radios = [...form.querySelectorAll("input[name=protocol]")];
  const texts = ["method", "dataset", "model", "metric"];
  const initial = radios.find((radio) => radio.checked);
  const remember = () => {
    const state = new URLSearchParams();
    const protocol = radios.find((radio) => radio.checked);
    if (protocol && protocol !== initial) state.set("protocol", protocol.value);
    for (const name of texts) if (field(name).value) state.set(name, field(name).value);
    const hidden = boxes.filter((box) => !box.checked).map((box) => box.value);
    if (hidden.length) state.set("without", hidden.join(" "));
    history.replaceState(null, "", state.size ? `#?${state}` : location.pathname + location.search);
  };
  const restore = () => {
    if (!location.hash.startsWith("#?")) return;
    const state = new URLSearchParams(location.hash.slice(2));
    for (const radio of radios) if (radio.value === state.get("protocol")) radio.checked = true;
    for (const name of texts) if (state.has(name)) field(name).value = state.get(name);
    const hidden = (state.get("without") || "").split(" ");
    for (const box of boxes) box.checked = !hidden.includes(box.value);
  };
  const apply = () => {
    const protocol = radios.find((radio) => radio.checked), method = field("method").value.trim().toLowerCase();
    const badges = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const fits = (part, name) => !field(name).value || part.dataset[name] === undefined || part.dataset[name] === field(name).value;
    let rows = 0;
    for (const part of document.querySelectorAll("[data-metric]")) part.classList.toggle("off", !fits(part, "metric"));
    for (const part of document.querySelectorAll("article[data-badge], figure[data-badge]")) {
      part.classList.toggle("off", !badges.has(part.dataset.badge));
    }
    for (const sheet of document.querySelectorAll(".sheet")) {
      let here = 0;
      for (const row of sheet.querySelectorAll("tbody tr")) {
        const on = badges.has(row.dataset.badge || sheet.dataset.badge) && row.dataset.method.includes(method);
        row.classList.toggle("off", !on);
        here += on;
      }
      const on = protocol.value === sheet.dataset.protocol && fits(sheet, "dataset") && fits(sheet, "model") && here > 0;
      sheet.classList.toggle("off", !on);
      rows += on && sheet.dataset.model !== undefined ? here : 0;
    }
    shown.textContent = `${rows} ${rows === 1 ? "line" : "lines"}`;
  };
  const change = () => { apply(); remember(); };
  form.addEventListener("input", change);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(change));
  window.addEventListener("hashchange", () => { restore(); apply(); });
  document.addEventListener("keydown", (event) => {
    const writing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !writing) {
      event.preventDefault();
      field("method").focus();
    } else if (event.key === "Escape" && document.activeElement === field("method")) {
      field("method").value = "";
      field("method").blur();
      change();
    }
  });
  restore();
  apply();
})();
