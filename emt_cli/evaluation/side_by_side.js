for (const article of document.querySelectorAll("article")) {
  const box = article.querySelector(".compare");
  const magnifier = article.querySelector(".magnifier");
  const zoom = article.querySelector(".zoom input");
  const canvases = [...magnifier.querySelectorAll("canvas")];
  const pictures = [...article.querySelectorAll("template.version")].map((version) => {
    const picture = new Image();
    picture.src = version.content.firstElementChild.getAttribute("src");
    return picture;
  });
  const place = document.createElement("div");
  place.className = "place";
  box.append(place);
  let [x, y] = [0.5, 0.5];
  const draw = () => {
    const { naturalWidth: width, naturalHeight: height } = pictures[0];
    const side = Math.min(canvases[0].width / Number(zoom.value), width, height);
    const left = Math.min(Math.max(x * width - side / 2, 0), width - side);
    const top = Math.min(Math.max(y * height - side / 2, 0), height - side);
    canvases.forEach((canvas, index) => {
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(pictures[index], left, top, side, side, 0, 0, canvas.width, canvas.height);
    });
    Object.assign(place.style, {
      left: 100 * left / width + "%", top: 100 * top / height + "%",
      width: 100 * side / width + "%", height: 100 * side / height + "%",
    });
    article.querySelector(".zoom output").textContent = zoom.value + "\u00d7";
  };
  const move = (across, down) => {
    x = Math.min(Math.max(across, 0), 1);
    y = Math.min(Math.max(down, 0), 1);
    draw();
  };
  box.addEventListener("pointermove", (event) => {
    const { left, top, width, height } = box.getBoundingClientRect();
    move((event.clientX - left) / width, (event.clientY - top) / height);
  });
  const turn = (by) => {
    zoom.value = Number(zoom.value) + by;
    draw();
  };
  magnifier.addEventListener("keydown", (event) => {
    const step = 8 / Number(zoom.value) / pictures[0].naturalWidth;
    const keys = {
      ArrowLeft: () => move(x - step, y), ArrowRight: () => move(x + step, y),
      ArrowUp: () => move(x, y - step), ArrowDown: () => move(x, y + step),
      "+": () => turn(1), "-": () => turn(-1),
    };
    if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  zoom.addEventListener("input", draw);
  Promise.all(pictures.map((picture) => picture.decode())).then(draw);
}
