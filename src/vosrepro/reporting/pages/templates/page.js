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
// A number shows where it comes from in place; its address stays in the bar, and without a script the link jumps there.
const dialog = document.createElement("dialog");
document.body.append(dialog);
for (const link of document.querySelectorAll('a.why[href^="#"], a.spot')) link.addEventListener("click", event => {
  const block = document.getElementById(decodeURIComponent(link.hash.slice(1)));
  if (!block || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.replaceState(null, "", link.hash);
  const title = document.createElement("h3"), close = document.createElement("button"), bar = document.createElement("div");
  title.textContent = block.querySelector("summary").textContent;
  close.textContent = "Close"; close.className = "close"; close.type = "button"; close.autofocus = true;
  close.addEventListener("click", () => dialog.close());
  bar.className = "bar"; bar.append(title, close);
  dialog.setAttribute("aria-label", title.textContent);
  dialog.replaceChildren(bar, block.querySelector(".inside").cloneNode(true));
  dialog.classList.add("trail");
  dialog.showModal();
  dialog.scrollTop = 0;
});
dialog.addEventListener("click", event => event.target === dialog && dialog.close());
// "Copy" takes the command beside it.
for (const button of document.querySelectorAll("button.copy")) button.hidden = !navigator.clipboard;
document.addEventListener("click", async event => {
  const button = event.target.closest?.("button.copy");
  if (!button) return;
  await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
  button.textContent = "Copied";
});
// On paper every block is open.
let opened = [];
addEventListener("beforeprint", () => { opened = [...document.querySelectorAll("details:not([open])")]; opened.forEach(block => block.open = true); });
addEventListener("afterprint", () => opened.forEach(block => block.open = false));
