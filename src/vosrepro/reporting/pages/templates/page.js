// Sortable tables: a click on a column's button sorts by data-v (numbers) or by text.
for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const body = table.tBodies[0];
    const numeric = [...body.rows].some(row => row.cells[column].dataset.v !== undefined);
    const up = head.getAttribute("aria-sort") === (numeric ? "descending" : "ascending");
    const key = row => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent.trim();
      return cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
    };
    const sign = numeric ? (up ? 1 : -1) : (up ? -1 : 1);
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!numeric) return sign * x.localeCompare(y);
      return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y);
    });
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    rows.forEach(row => row.classList.remove("group-start"));
    body.append(...rows);
  }));
}
// A link into a closed block opens it.
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  if (target?.tagName === "DETAILS") target.scrollIntoView();
};
addEventListener("hashchange", reveal);
reveal();
