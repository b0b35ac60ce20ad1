// The table of configurations: sorted by any column, in pages, each row a door to its runs.

function makeTable(host, { pick }) {
  const state = { rows: [], columns: [], sort: null, down: true, page: 0, size: 25, picked: null };
  const body = make('tbody');
  const head = make('thead');
  const caption = make('caption');
  const table = make('table', {}, caption, head, body);
  const place = make('span', { role: 'status' });
  const before = make('button', { type: 'button', onclick: () => turn(-1) }, 'Previous');
  const after = make('button', { type: 'button', onclick: () => turn(1) }, 'Next');
  const size = make('select', { id: 'page-size', onchange: () => { state.size = Number(size.value); state.page = 0; drawBody(); } },
    [25, 50, 100, 200].map((value) => make('option', { value }, String(value))));
  const save = make('button', { type: 'button', onclick: () => download() }, 'Save as CSV');
  host.append(
    scrolling('Table of configurations, scrolls sideways', table),
    make('div', { class: 'pager' }, before, place, after, make('label', { for: 'page-size' }, 'rows a page'), size, save));

  function update({ rows, columns, picked, about }) {
    Object.assign(state, { rows, columns, picked, page: 0 });
    if (!columns.some(({ key }) => key === state.sort)) { state.sort = columns[1].key; state.down = columns[1].down !== false; }
    caption.textContent = about;
    drawHead();
    drawBody();
  }

  function drawHead() {
    head.replaceChildren(make('tr', {}, state.columns.map((column) => {
      const sorted = column.key === state.sort;
      const button = make('button', { type: 'button', 'data-key': column.key, onclick: () => order(column) }, column.title);
      return make('th', {
        scope: 'col', class: column.words ? 'words' : null, 'aria-sort': sorted ? (state.down ? 'descending' : 'ascending') : 'none',
      }, button);
    })));
  }

  function order(column) {
    state.down = state.sort === column.key ? !state.down : column.down !== false;
    state.sort = column.key;
    state.page = 0;
    drawHead();
    drawBody();
    const button = [...head.querySelectorAll('button')].find((b) => b.dataset.key === column.key);
    if (button) button.focus();
  }

  function sorted() {
    const column = state.columns.find(({ key }) => key === state.sort);
    const empty = (value) => value === null || value === undefined || Number.isNaN(value) || value === '';
    const sign = state.down ? -1 : 1;
    return state.rows.map((row) => [row, column.value(row)]).sort(([, a], [, b]) => {
      if (empty(a) || empty(b)) return empty(a) - empty(b); // what is missing comes last, both ways
      return sign * (typeof a === 'string' ? a.localeCompare(b, 'en', { numeric: true }) : a - b);
    }).map(([row]) => row);
  }

  function drawBody() {
    const pages = Math.max(1, Math.ceil(state.rows.length / state.size));
    state.page = Math.min(Math.max(0, state.page), pages - 1);
    const start = state.page * state.size;
    const part = sorted().slice(start, start + state.size);
    body.replaceChildren(...part.map((row) => make('tr', { 'data-row': row.index, class: row.index === state.picked ? 'picked' : null },
      state.columns.map((column, i) => (i === 0
        ? make('th', { scope: 'row', class: 'words' }, make('button', { type: 'button', class: 'link', onclick: () => pick(row) }, column.text(row)))
        : make('td', { class: column.words ? 'words' : null }, column.text(row)))))));
    place.textContent = state.rows.length
      ? `${count(start + 1)} to ${count(Math.min(start + state.size, state.rows.length))} of ${count(state.rows.length)}` : 'nothing to show';
    before.disabled = state.page === 0;
    after.disabled = state.page >= pages - 1;
  }

  function turn(step) { state.page += step; drawBody(); }

  function mark(index) {
    state.picked = index;
    for (const row of body.rows) row.classList.toggle('picked', Number(row.dataset.row) === index);
  }

  function download() {
    const quote = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const cell = (value) => (value === null || value === undefined || Number.isNaN(value) ? '' : quote(String(value)));
    const lines = [state.columns.map(({ key }) => key), ...sorted().map((row) => state.columns.map((c) => c.value(row)))];
    const blob = new Blob([lines.map((line) => line.map(cell).join(',')).join('\n') + '\n'], { type: 'text/csv' });
    const link = make('a', { href: URL.createObjectURL(blob), download: 'configurations.csv' });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  return { update, mark };
}
