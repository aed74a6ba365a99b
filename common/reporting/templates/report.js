"use strict";
// Filtering, sorting, enlarging and copying. The page says all that it has to say without this, too.
(() => {
  const table = document.querySelector(".matrix");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const form = document.getElementById("filter");
  const told = form.querySelector("output");
  const heads = [...table.tHead.rows[0].cells];
  const titles = heads.map((head) => head.textContent.trim());
  const sections = new Map(rows.map((row) => [row, document.getElementById(row.querySelector("a").hash.slice(1))]));
  const links = new Map(rows.map((row) => [row, document.querySelector(`.overview a[href="${row.querySelector("a").hash}"]`)]));
  const searched = new Map(rows.map((row) =>
    [row, `${row.querySelector("a").getAttribute("aria-label")} ${row.dataset.words} ${row.dataset.state}`.toLowerCase()]));

  // --- Filter ---
  function filter() {
    const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const wanted = ["model", "chip", "precision", "state"].every((key) => !form[key].value || form[key].value === row.dataset[key])
        && words.every((word) => searched.get(row).includes(word));
      row.hidden = !wanted;
      for (const other of [sections.get(row), links.get(row)]) if (other) other.hidden = !wanted;
      shown += wanted;
    }
    return shown;
  }
  const counted = (shown) => `${shown} of ${rows.length} cells shown`;
  form.addEventListener("input", (event) => { if (event.target !== form.sort) told.value = counted(filter()); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { told.value = counted(filter()); sort(-1); }));

  // --- Sort: numbers by data-value, unknown ones last in both directions ---
  function key(row, column) {
    const cell = row.cells[column];
    if (cell === undefined) return null; // a row without figures has a reason in their place
    if (cell.dataset.value === undefined) return cell.textContent.trim().toLowerCase();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  }
  function compare(first, second) {
    return typeof first === "number" ? first - second : first.localeCompare(second, "en", { numeric: true });
  }
  function sort(column, direction = "ascending") {
    const sign = direction === "ascending" ? 1 : -1;
    const ordered = rows.map((row, place) => ({ row, place, key: column < 0 ? place : key(row, column) }));
    ordered.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
      return sign * compare(a.key, b.key) || a.place - b.place;
    });
    body.append(...ordered.map((entry) => entry.row));
    heads.forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
    form.sort.value = column < 0 ? "" : `${column} ${direction}`;
  }
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = titles[column];
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      sort(column, direction);
      told.value = `sorted by ${titles[column]}, ${direction}`;
    });
    head.replaceChildren(button);
  });
  form.sort.append(new Option("name", ""));
  titles.forEach((title, column) => {
    const [low, high] = heads[column].classList.contains("number") ? ["lowest first", "highest first"] : ["a to z", "z to a"];
    form.sort.append(new Option(`${title}, ${low}`, `${column} ascending`), new Option(`${title}, ${high}`, `${column} descending`));
  });
  form.sort.addEventListener("change", () => {
    const [column, direction] = form.sort.value.split(" ");
    sort(column === "" ? -1 : Number(column), direction);
  });
  form.hidden = rows.length === 0;
  if (rows.length) told.value = counted(filter()); // a browser may keep what was chosen before a reload

  // --- Enlarge ---
  const dialog = document.querySelector("dialog");
  for (const picture of document.querySelectorAll("figure > .picture")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "zoom";
    button.setAttribute("aria-label", `Enlarge: ${picture.getAttribute("alt") || picture.getAttribute("aria-label")}`);
    picture.replaceWith(button);
    button.append(picture);
    button.addEventListener("click", () => {
      dialog.lastElementChild.replaceChildren(picture.cloneNode(true));
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => dialog.lastElementChild.replaceChildren());

  // --- Copy a command; a browser may not allow it for a file on disk ---
  if (navigator.clipboard) {
    for (const command of document.querySelectorAll(".command")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Copy";
      button.addEventListener("click", () => navigator.clipboard.writeText(command.querySelector("code").textContent).then(
        () => { button.textContent = "Copied"; }, () => { button.textContent = "Not allowed"; }));
      command.prepend(button);
    }
  }

  // --- Print what matters, open ---
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details.matters:not([open])")) { part.open = true; opened.push(part); }
  });
  addEventListener("afterprint", () => { for (const part of opened.splice(0)) part.open = false; });
})();
