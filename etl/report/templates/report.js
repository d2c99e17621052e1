"use strict";
// A click on a column's head sorts by it; numbers largest first, words from a to z; again: the other way.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const number = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const first = number ? "descending" : "ascending";
    const order = before === first ? (number ? "ascending" : "descending") : first;
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.cells[head.cellIndex].dataset.sort;
    const compare = number ? (a, b) => a - b : (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    // What has no value stands last, whichever way.
    const sorted = [...body.rows].sort((a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === undefined || right === undefined) {
        return (left === undefined) - (right === undefined);
      }
      return sign * compare(left, right);
    });
    body.append(...sorted);
    for (const other of head.parentElement.cells) {
      other.removeAttribute("aria-sort");
    }
    head.setAttribute("aria-sort", order);
  });
}
