"use strict";
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.v;
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const by = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -by : by;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  }));
}
for (const article of document.querySelectorAll("article")) {
  const box = article.querySelector(".compare");
  const slider = box.querySelector("input");
  const move = () => {
    box.style.setProperty("--at", slider.value + "%");
    slider.setAttribute("aria-valuetext", slider.value + " % of the left picture");
  };
  slider.addEventListener("input", move);
  move();
  const versions = [...article.querySelectorAll("template.version")].map((version) => version.content.firstElementChild);
  const show = (side, place) => {
    const chosen = versions[Number(article.querySelector("select." + side).value)];
    const image = box.querySelector("img." + place);
    image.src = chosen.getAttribute("src");
    image.alt = chosen.alt;
    image.classList.toggle("pixels", chosen.classList.contains("pixels"));
  };
  article.querySelector("select.left").addEventListener("change", () => show("left", "before"));
  article.querySelector("select.right").addEventListener("change", () => show("right", "after"));
  show("left", "before");
  show("right", "after");
}
