"use strict";
(() => {
  const number = (cell) => {
    const text = cell.dataset.v;
    return text === undefined || text === "" ? null : Number(text);
  };
  const compare = (index, sign, words) => (first, second) => {
    const a = first.cells[index], b = second.cells[index];
    if (words) return sign * a.textContent.trim().localeCompare(b.textContent.trim());
    const x = number(a), y = number(b);
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (x - y);
  };
  for (const button of document.querySelectorAll("th button")) {
    const head = button.closest("th"), table = button.closest("table"), body = table.tBodies[0];
    button.addEventListener("click", () => {
      const first = head.dataset.first || "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      body.append(...[...body.rows].sort(compare(head.cellIndex, sign, head.dataset.words !== undefined)));
    });
  }
  for (const box of document.querySelectorAll("input[data-curve]")) {
    box.addEventListener("change", () => {
      for (const line of document.querySelectorAll(`g[data-curve="${box.dataset.curve}"]`)) {
        line.classList.toggle("hidden", !box.checked);
      }
    });
  }
  for (const button of document.querySelectorAll("button[data-all]")) {
    button.addEventListener("click", () => {
      for (const box of document.querySelectorAll("input[data-curve]")) {
        box.checked = button.dataset.all === "all" || box.dataset.ours !== undefined;
        box.dispatchEvent(new Event("change"));
      }
    });
  }
})();
