// Elements, numbers, shapes, lists and small charts.

function build(element, attributes, children) {
	for (const [name, value] of Object.entries(attributes ?? {})) {
		if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
		else attribute(element, name, value);
	}
	element.append(...children);
	return element;
}

/** A new HTML element. An attribute such as `onclick` is a listener. */
export const el = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);

export const svg = (tag, attributes, ...children) =>
	build(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

export function text(element, value) {
	if (element.textContent !== value) element.textContent = value;
}

/** Sets an attribute. `false`, `null` and `undefined` remove it. */
export function attribute(element, name, value) {
	const wanted = value === true ? '' : value === false || value == null ? null : String(value);
	if (element.getAttribute(name) === wanted) return;
	if (wanted === null) element.removeAttribute(name);
	else element.setAttribute(name, wanted);
}

const known = new WeakMap();

/**
 * Makes the children of `parent` the rows of `items`, which have keys. A row that was there stays the same element, so that
 * focus and selection survive.
 */
export function keyed(parent, items, make, fill) {
	const before = known.get(parent) ?? new Map();
	const after = new Map(items.map((item) => [item.key, before.get(item.key) ?? make(item)]));
	for (const [key, element] of before) if (!after.has(key)) element.remove();
	let place = parent.firstElementChild;
	for (const item of items) {
		const element = after.get(item.key);
		if (element === place) place = place.nextElementSibling;
		else parent.insertBefore(element, place);
		fill?.(element, item);
	}
	known.set(parent, after);
}

export function card(title, className, ...children) {
	return el('section', { class: `card ${className}`, 'aria-label': title }, el('h2', {}, title), ...children);
}

/** A part of a card that scrolls by itself. A keyboard reaches it, too. */
export function scroller(tag, label, ...children) {
	return el(tag, { class: 'scroll', tabindex: 0, role: tag === 'div' && 'region', 'aria-label': label }, ...children);
}

// Each level has its own shape, because colour alone says nothing to many people. All are 16 × 16.
const SHAPES = {
	ok: 'M8 1.5a6.5 6.5 0 1 0 .01 0z',
	info: 'M8 .8 15.2 8 8 15.2.8 8z',
	warn: 'M8 1 15.6 14.6H.4z',
	bad: 'M2 2h12v12H2zM5.6 4.5 4.5 5.6 6.9 8 4.5 10.4l1.1 1.1L8 9.1l2.4 2.4 1.1-1.1L9.1 8l2.4-2.4-1.1-1.1L8 6.9z',
	check: 'M1.5 8.5 3.4 6.6 6.2 9.4 12.7 2.9l1.8 1.8-8.3 8.3z',
	wait: 'M8 1.5a6.5 6.5 0 1 0 .01 0zM8 4a4 4 0 1 1-.01 0z',
};

export const outline = (level) => SHAPES[level] ?? SHAPES.wait;

export const shape = (level) =>
	reshape(svg('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true' }, svg('path', { 'fill-rule': 'evenodd' })), level);

export function reshape(picture, level) {
	attribute(picture, 'class', `shape ${level}`);
	attribute(picture.firstElementChild, 'd', outline(level));
	return picture;
}

/** Numbers and times as people of this language write them. A value that is not known is a dash. */
export class Formats {
	constructor(language, say) {
		this.say = say;
		this.whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0, useGrouping: 'always' });
		this.short = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
	}

	int = (value) => (Number.isFinite(value) ? this.whole.format(value) : '–');

	/** Three digits, such as 0,41 or 12,3, followed by the unit. */
	few(value, unit = '') {
		return Number.isFinite(value) ? (Math.abs(value) >= 1000 ? this.whole : this.short).format(value) + unit : '–';
	}

	rate = (value) => this.few(value < 0.05 ? 0 : value, '/s');

	percent = (share) => this.few(share * 100, ' %');

	/** A duration that is given in microseconds. */
	micros = (us) => (us < 1000 ? this.few(us, ' µs') : us < 1e6 ? this.few(us / 1e3, ' ms') : this.few(us / 1e6, ' s'));

	bytes = (value) => {
		const power = value < 1000 ? 0 : Math.min(5, Math.floor(Math.log10(value) / 3));
		return this.few(value / 1000 ** power, ` ${['B', 'kB', 'MB', 'GB', 'TB', 'PB'][power] ?? ''}`);
	};

	duration(seconds) {
		if (seconds < 60) return this.few(Math.round(seconds * 2) / 2, ' s');
		if (seconds < 3600) return this.few(Math.floor(seconds / 60), ' min');
		const hours = Math.floor(seconds / 3600);
		return hours < 48 ? `${hours} h ${Math.floor((seconds % 3600) / 60)} min` : `${this.int(Math.floor(hours / 24))} d`;
	}

	ago(seconds) {
		return this.say('ago', { time: this.duration(Math.max(0, seconds)) });
	}

	/** In UTC, as in the programs' files. */
	clock = (time) => time.slice(11, 19);
}

/** Fills a list of events, newest first. `describe(entry)` returns `{level, subject, said}`. */
export function showTimeline(list, entries, shell, describe) {
	keyed(list, entries, (entry) => {
		if (entry.restart) return restart(entry, shell);
		const { level, subject, said } = describe(entry);
		return el('li', {}, moment(entry, shell), shape(level), el('span', {}, subject, ' ', said));
	});
}

function restart(entry, shell) {
	const said = shell.say('restarted', { title: shell.say('title') });
	return el('li', { class: 'restart' }, moment(entry, shell), shape('info'), el('span', {}, said));
}

export function moment({ time }, { formats }) {
	return el('time', { datetime: time, title: time }, formats.clock(time));
}

/** Fills a checklist. Each check is `{key, isGood, said}`. */
export function showChecks(list, checks) {
	keyed(list, checks, () => el('li', {}, shape('check'), el('span')), (element, { isGood, said }) => {
		attribute(element, 'data-good', String(isGood));
		reshape(element.firstElementChild, isGood ? 'check' : 'warn');
		text(element.lastElementChild, said);
	});
}

const WIDTH = 120;
const HEIGHT = 40;
/** Fewer samples do not fill a chart. */
const LEAST_SAMPLES = 13;

/** One line for each series. Values that are not known leave a gap. */
export class Chart {
	/** `names` are the names of the lines, if there are several. */
	constructor(title, names, format, say) {
		Object.assign(this, { title, format, say });
		this.now = el('strong');
		this.top = el('span');
		this.area = svg('path', { class: 'area' });
		this.lines = [0, 1].map((index) => svg('path', { class: `line line${index}` }));
		const legend = names.map((name, index) => el('span', { class: `key key${index}` }, name));
		const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' };
		this.picture = svg('svg', box, this.area, ...this.lines);
		this.element = el('figure', { class: 'chart' }, el('figcaption', {}, el('span', {}, title, ...legend), this.now, this.top), this.picture);
	}

	/** Draws `series`, an array of numbers for each line, oldest first; `now` is the present value in words. */
	show(series, now) {
		const most = Math.max(0, ...series.flat().filter(Number.isFinite));
		const drawn = series.map((values) => runs(values, most > 0 ? most * 1.08 : 1));
		drawn.forEach((line, index) => attribute(this.lines[index], 'd', line.map((run) => `M${run.join('L')}`).join('')));
		const x = (point) => point.split(' ')[0];
		attribute(this.area, 'd', drawn[0].map((run) => `M${x(run[0])} ${HEIGHT}L${run.join('L')}L${x(run.at(-1))} ${HEIGHT}Z`).join(''));
		const label = drawn[0].length ? this.say('most', { value: this.format(most) }) : this.say('no-data');
		text(this.now, now);
		text(this.top, label);
		attribute(this.picture, 'aria-label', `${this.title}: ${now}. ${label}`);
	}
}

/** The points of a line, in runs without a gap. */
function runs(values, top) {
	const found = [];
	values.forEach((value, index) => {
		if (!Number.isFinite(value)) return;
		if (!Number.isFinite(values[index - 1])) found.push([]);
		const x = WIDTH * (1 - (values.length - 1 - index) / (Math.max(values.length, LEAST_SAMPLES) - 1));
		found.at(-1).push(`${x.toFixed(1)} ${(HEIGHT - 1 - (value / top) * (HEIGHT - 2)).toFixed(1)}`);
	});
	// One value alone is a dot: a line from there to there.
	return found.map((run) => (run.length > 1 ? run : [...run, ...run]));
}
