// The map and the list of a report. `data` is what report.py's `_data` makes; coordinates are pixels of the run's grid,
// which Leaflet knows as latitude = -row and longitude = column.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const TENTHS = 10;
  const ROWS_AT_A_TIME = 100;
  const SMALL_SCREEN = window.matchMedia("(max-width: 60rem)");
  const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");

  // --- words -----------------------------------------------------------------------------------------------------

  const number = (value, digits) =>
    value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const degrees = (value, digits, positive, negative) =>
    `${Math.abs(value).toFixed(digits)}° ${value < 0 ? negative : positive}`;
  const longitude = (value, digits = 5) => degrees(((((value + 180) % 360) + 360) % 360) - 180, digits, "E", "W");
  const latitude = (value, digits = 5) => degrees(value, digits, "N", "S");

  const FORMATS = {
    area: (v) => (v >= 1e6 ? `${number(v / 1e6, 2)} km²` : v >= 10 ? `${number(v, 0)} m²` : `${Number(v.toPrecision(2))} m²`),
    length: (v) => (v >= 1e4 ? `${number(v / 1e3, 2)} km` : `${number(v, 0)} m`),
    probability: (v) => number(v, 2),
    number: (v) => (typeof v === "number" ? `${Number(v.toPrecision(4))}` : String(v)),
    truth: (v) => (v ? "yes" : "no"),
    text: (v) => String(v),
    longitude,
    latitude,
  };
  const shown = (column, index, digits) => {
    const value = valueOf(column, index);
    return value === null ? "–" : FORMATS[column.kind](value, digits);
  };
  const valueOf = (column, index) => ("values" in column ? column.values[index] : column.value);
  const columns = new Map(data.columns.map((column) => [column.name, column]));

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // --- the map ---------------------------------------------------------------------------------------------------

  // Square metres look square: in a geographic CRS a pixel is narrower than it is high.
  const unit = Math.min(data.pixel_width_m, data.pixel_height_m);
  const crs = L.extend({}, L.CRS.Simple, {
    transformation: new L.Transformation(data.pixel_width_m / unit, 0, -data.pixel_height_m / unit, 0),
    distance: (a, b) => Math.hypot((b.lng - a.lng) * data.pixel_width_m, (b.lat - a.lat) * data.pixel_height_m),
  });
  const whole = L.latLngBounds([-data.height, 0], [0, data.width]);
  const map = L.map("map", {
    crs,
    attributionControl: false,
    maxBounds: whole.pad(0.6),
    maxZoom: 5,
    minZoom: -12,
    zoomControl: false,
    zoomDelta: 0.5,
    zoomSnap: 0,
    renderer: L.canvas({ padding: 0.4, tolerance: 5 }),
  });
  L.control.zoom({ position: "bottomright" }).addTo(map);
  L.control.scale({ imperial: false, maxWidth: 120 }).addTo(map);

  function showWhole(animate) {
    map.fitBounds(whole, { animate, padding: [8, 8] });
  }
  showWhole(false);
  map.setMinZoom(map.getZoom() - 1);
  $("whole").addEventListener("click", () => showWhole(!STILL.matches));

  for (const [name, [rows, cols]] of Object.entries(data.extents)) {
    const pane = map.createPane(name);
    pane.classList.add("picture");
    pane.style.zIndex = 250; // below the outlines
    L.imageOverlay($(`picture-${name}`), [[-rows, 0], [0, cols]], { pane: name }).addTo(map);
  }
  $("pictures").remove();

  // A picture pixel that is many screen pixels wide is shown as the square it is.
  const names = Object.keys(data.extents);
  const factor = Math.max(1, data.extents[names[0]][0] / $("map").querySelector("img").naturalHeight);
  const sharpen = () => $("map").classList.toggle("sharp", factor * map.getZoomScale(map.getZoom(), 0) >= 3);
  map.on("zoomend", sharpen);
  sharpen();

  // --- two pictures side by side ------------------------------------------------------------------------------------------

  const [left, right] = data.swipe;
  // Among the map's panes, divider and labels lie below the popup; they are kept where they are while the panes move.
  const divider = $("divider");
  const over = $("over");
  map.createPane("over").style.zIndex = 620;
  map.getPane("over").append(over);
  let position = 0.5;

  const view = () => document.querySelector("input[name=view]:checked").value;

  function clip(name, from, to) {
    const pane = map.getPane(name);
    if (!pane) return;
    pane.hidden = from >= to;
    const { x: width, y: height } = map.getSize();
    const start = map.containerPointToLayerPoint([from * width, 0]);
    const stop = map.containerPointToLayerPoint([to * width, height]);
    pane.style.clipPath =
      `polygon(${start.x}px ${start.y}px, ${stop.x}px ${start.y}px, ${stop.x}px ${stop.y}px, ${start.x}px ${stop.y}px)`;
  }

  function drawView() {
    const what = view();
    const isSwipe = what === "swipe";
    for (const name of names) {
      if (isSwipe && name === left) clip(name, 0, position);
      else if (isSwipe && name === right) clip(name, position, 1);
      else clip(name, 0, name === what ? 1 : 0);
    }
    divider.hidden = !isSwipe;
    document.querySelector(".side.left").hidden = !isSwipe && what !== left;
    document.querySelector(".side.right").hidden = !isSwipe && what !== right;
    const { x: width, y: height } = map.getSize();
    over.style.width = `${width}px`;
    over.style.height = `${height}px`;
    L.DomUtil.setPosition(over, map.containerPointToLayerPoint([0, 0]).round());
    divider.style.left = `${100 * position}%`;
    const percent = Math.round(100 * position);
    divider.setAttribute("aria-valuenow", percent);
    divider.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
  }

  function moveDivider(to) {
    position = Math.min(1, Math.max(0, to));
    drawView();
  }

  map.on("move zoom zoomend resize viewreset", drawView);
  for (const input of document.getElementsByName("view")) input.addEventListener("change", drawView);

  L.DomEvent.disableClickPropagation(divider);
  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    event.preventDefault();
    divider.focus();
  });
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = $("map").getBoundingClientRect();
    moveDivider((event.clientX - box.left) / box.width);
  });
  const STEPS = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 };
  divider.addEventListener("keydown", (event) => {
    if (!(event.key in STEPS)) return;
    moveDivider(position + STEPS[event.key]);
    event.preventDefault();
    event.stopPropagation();
  });
  drawView();

  // --- where the pointer is --------------------------------------------------------------------------------------

  function lonlat({ lat, lng }) {
    const last = data.place.size - 1;
    const [row, col] = [(-lat / data.height) * last, (lng / data.width) * last];
    const [i, j] = [row, col].map((place) => Math.min(last - 1, Math.max(0, Math.floor(place))));
    const [y, x] = [row - i, col - j];
    const at = (table, down, right) => table[i + down][j + right] ?? NaN; // null beside the earth
    const between = (table) =>
      (1 - y) * ((1 - x) * at(table, 0, 0) + x * at(table, 0, 1)) + y * ((1 - x) * at(table, 1, 0) + x * at(table, 1, 1));
    return [between(data.place.lon), between(data.place.lat)];
  }

  map.on("mousemove click", ({ latlng }) => {
    const [lon, lat] = lonlat(latlng);
    $("pointer").textContent = whole.contains(latlng) && Number.isFinite(lon) ? `${latitude(lat)}, ${longitude(lon)}` : "";
  });
  map.on("mouseout", () => ($("pointer").textContent = ""));

  // --- the polygons ----------------------------------------------------------------------------------------------

  const probability = columns.get("probability_mean");
  const area = columns.get("area_m2");

  function colour(index) {
    const value = probability ? valueOf(probability, index) : null;
    const reached = data.classes.filter(([lower]) => value === null || lower <= value);
    return reached[reached.length - 1][1];
  }

  function points(steps) {
    let [x, y] = [0, 0];
    const ring = [];
    for (let i = 0; i < steps.length; i += 2) {
      x += steps[i];
      y += steps[i + 1];
      ring.push([-y / TENTHS, x / TENTHS]);
    }
    return ring;
  }

  // Where a pixel of the grid is less than one of the screen, thick lines would hide what they enclose.
  const isSmall = () => map.getZoomScale(map.getZoom(), 0) < 0.75;
  const fitting = () => (isSmall() ? { edge: 2.6, line: 1.3 } : { edge: 4.5, line: 2 });
  let weights = fitting();
  const usual = (index) => ({ color: colour(index), fillOpacity: 0.08, weight: weights.line });

  let chosen = null;
  const outlines = L.layerGroup();
  const edges = [];
  const shapes = data.rings.map((rings, index) => {
    const ring = rings.map(points);
    const edge = L.polygon(ring, { color: "#0b0d10", fill: false, interactive: false, opacity: 0.7, weight: weights.edge });
    const shape = L.polygon(ring, usual(index));
    edges.push(edge);
    shape.on("click", (event) => {
      L.DomEvent.stop(event);
      choose(index, { at: event.latlng });
    });
    // The smaller lie above the larger, so that all can be clicked.
    outlines.addLayer(edge).addLayer(shape);
    return shape;
  });
  outlines.addTo(map);
  map.on("zoomend", () => {
    const wanted = fitting();
    if (wanted.line === weights.line) return;
    weights = wanted;
    edges.forEach((edge) => edge.setStyle({ weight: weights.edge }));
    shapes.forEach((shape, index) => index === chosen || shape.setStyle({ weight: weights.line }));
  });
  $("outlines").addEventListener("change", (event) => {
    if (event.target.checked) outlines.addTo(map);
    else {
      map.closePopup();
      outlines.remove();
    }
  });

  // --- one change ------------------------------------------------------------------------------------------------

  function attributes(index) {
    const list = element("dl");
    for (const column of data.columns) {
      if (valueOf(column, index) === null) continue;
      list.append(element("dt", { textContent: column.label }), element("dd", { textContent: shown(column, index) }));
    }
    const title = element("h3", { textContent: `Change ${index + 1}` });
    return element("div", { className: "attributes" }, title, list);
  }

  function mark(index) {
    if (chosen !== null) {
      shapes[chosen].setStyle(usual(chosen));
      rowOf(chosen)?.removeAttribute("aria-current");
    }
    chosen = index;
    if (index === null) return;
    shapes[index].setStyle({ color: "#fff", fillOpacity: 0.2, weight: 3 }).bringToFront();
    rowOf(index)?.setAttribute("aria-current", "true");
  }

  function choose(index, { at = null } = {}) {
    mark(index);
    // Above the change, where it hides none of it, unless that is out of sight.
    const bounds = shapes[index].getBounds();
    const above = L.latLng(bounds.getNorth(), bounds.getCenter().lng);
    L.popup({ autoPan: at !== null, maxHeight: Math.round(0.45 * map.getSize().y), maxWidth: 300, minWidth: 230 })
      .setLatLng(at === null || map.getBounds().contains(above) ? above : at)
      .setContent(attributes(index))
      .openOn(map);
    if (at === null) fly(bounds);
    else rowOf(index)?.scrollIntoView({ block: "nearest" });
  }

  function fly(bounds) {
    $("outlines").checked = true;
    outlines.addTo(map);
    if (SMALL_SCREEN.matches) $("map").scrollIntoView({ block: "nearest", behavior: STILL.matches ? "auto" : "smooth" });
    // The popup stands above the middle of the change, so that is where the room is left.
    const { x: width, y: height } = map.getSize();
    const margin = { maxZoom: 2, paddingTopLeft: [0.15 * width, 0.55 * height], paddingBottomRight: [0.15 * width, 0.1 * height] };
    if (STILL.matches) map.fitBounds(bounds, { ...margin, animate: false });
    else map.flyToBounds(bounds, { ...margin, duration: 0.9 });
  }

  map.on("popupclose", () => mark(null));
  document.addEventListener("keydown", (event) => event.key === "Escape" && map.closePopup());

  // --- the list --------------------------------------------------------------------------------------------------

  const body = $("changes").tBodies[0];
  let order = data.rings.map((_, index) => index);
  let sorted = { name: "area_m2", falling: true };
  let listed = ROWS_AT_A_TIME;

  const rowOf = (index) => body.querySelector(`tr[data-index="${index}"]`);

  function drawHead() {
    const row = element("tr", {}, element("th", { scope: "col" }, element("span", { className: "unseen", textContent: "Go there" })));
    for (const name of data.table) {
      const column = columns.get(name);
      const cell = element("th", { scope: "col", className: column.kind }, element("button", { type: "button", textContent: column.short }));
      const direction = sorted.falling ? "descending" : "ascending";
      cell.setAttribute("aria-sort", sorted.name === name ? direction : "none");
      cell.firstChild.addEventListener("click", () => {
        sortBy(name);
        $("changes").tHead.rows[0].cells[data.table.indexOf(name) + 1].firstChild.focus();
      });
      row.append(cell);
    }
    $("changes").tHead.replaceChildren(row);
  }

  function sortBy(name) {
    const column = columns.get(name);
    const isText = column.kind === "text";
    sorted = { name, falling: sorted.name === name ? !sorted.falling : !isText };
    const sign = sorted.falling ? -1 : 1;
    order.sort((a, b) => {
      const [first, second] = [valueOf(column, a), valueOf(column, b)];
      if (first === null || second === null) return (first === null) - (second === null) || a - b;
      return sign * (isText ? String(first).localeCompare(second) : first - second) || a - b;
    });
    listed = ROWS_AT_A_TIME;
    drawList();
  }

  function drawRow(index) {
    const go = element("button", { type: "button", className: "go", textContent: index + 1 });
    go.setAttribute("aria-label", `Go to change ${index + 1}, ${shown(area, index)}`);
    const row = element("tr", {}, element("td", {}, go));
    row.dataset.index = index;
    if (index === chosen) row.setAttribute("aria-current", "true");
    for (const name of data.table) {
      const column = columns.get(name);
      row.append(element("td", { className: column.kind, textContent: shown(column, index, 4) }));
    }
    row.addEventListener("click", () => choose(index));
    return row;
  }

  function drawList() {
    drawHead();
    body.replaceChildren(...order.slice(0, listed).map(drawRow));
    const left = order.length - listed;
    $("more").hidden = left <= 0;
    $("more").textContent = `Show ${number(Math.min(left, ROWS_AT_A_TIME), 0)} more of ${number(left, 0)}`;
  }

  $("more").addEventListener("click", () => {
    listed += ROWS_AT_A_TIME;
    drawList();
  });
  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr");
    const next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
    if (!next) return;
    next.querySelector("button").focus();
    event.preventDefault();
  });
  drawList();

  // --- the command -----------------------------------------------------------------------------------------------

  $("copy").addEventListener("click", async () => {
    const text = $("command").textContent;
    try {
      await navigator.clipboard.writeText(text);
      $("copy").textContent = "Copied";
    } catch {
      // Some browsers keep the clipboard from files; what is selected can be copied by hand.
      window.getSelection().selectAllChildren($("command"));
      $("copy").textContent = "Selected";
    }
  });
})();
