"use strict";
// A click on a heading sorts by its column: numbers with the largest first, text from a to z. A second
// click reverses the order.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const body = heading.closest("table").tBodies[0];
    const numeric = heading.classList.contains("number");
    const before = heading.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const order = before === first ? (numeric ? "ascending" : "descending") : first;
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.cells[heading.cellIndex].dataset.sort;
    const compare = numeric ? (a, b) => a - b : (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    // Rows without a value come last in either order.
    const sorted = [...body.rows].sort((a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === undefined || right === undefined) {
        return (left === undefined) - (right === undefined);
      }
      return sign * compare(left, right);
    });
    body.append(...sorted);
    for (const other of heading.parentElement.cells) {
      other.removeAttribute("aria-sort");
    }
    heading.setAttribute("aria-sort", order);
  });
}
