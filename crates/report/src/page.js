(() => {
  // Tables sort by any column; cells without a number come last in both directions.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
        const numeric = (text) => text !== "" && !Number.isNaN(Number(text));
        const compare = (a, b) => {
          const [x, y] = [value(a), value(b)];
          if (numeric(x) !== numeric(y)) return numeric(x) ? -1 : 1;
          const order = numeric(x) ? Number(x) - Number(y) : x.localeCompare(y);
          return down ? -order : order;
        };
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort(compare));
      });
    });
  }
  // Tooltips by mouse, touch and keyboard. Without scripts the title attribute is shown.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.role = "status";
  tip.hidden = true;
  document.body.append(tip);
  const show = (span) => {
    if (span.title) {
      span.dataset.tip = span.title;
      span.removeAttribute("title");
    }
    tip.textContent = span.dataset.tip;
    tip.hidden = false;
    const [at, own] = [span.getBoundingClientRect(), tip.getBoundingClientRect()];
    tip.style.left = `${Math.max(4, Math.min(at.left, innerWidth - own.width - 4))}px`;
    const below = at.bottom + 6;
    tip.style.top = `${below + own.height > innerHeight ? Math.max(4, at.top - own.height - 6) : below}px`;
  };
  for (const heat of document.querySelectorAll(".heat")) {
    const on = (event) => {
      const span = event.target.closest("span");
      if (span) show(span);
      else tip.hidden = true;
    };
    heat.addEventListener("mouseover", on);
    heat.addEventListener("click", on);
    heat.addEventListener("mouseleave", () => { tip.hidden = true; });
    // The tab key reaches the passage once; arrow keys move within it.
    heat.tabIndex = 0;
    let at = -1;
    heat.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") tip.hidden = true;
      if (!step) return;
      event.preventDefault();
      const spans = heat.querySelectorAll("span");
      at = Math.max(0, Math.min(spans.length - 1, at + step));
      spans[at].scrollIntoView({ block: "nearest" });
      show(spans[at]);
    });
    heat.addEventListener("blur", () => { tip.hidden = true; });
  }
})();
