// The lottery: agencies, their bets, and the draw.

import { attribute, card, Chart, el, keyed, outline, reshape, scroller, shape, showChecks, showTimeline, svg, text } from './kit.js';
import { words } from './lottery-words.js';

export { words };

/** The link to an agency, the same in both languages. */
const AGENCY = 'agencia';
const EVENTS_KEPT = 256;
/** Rates are means over this time. */
const RATE_SECONDS = 3;
/** So many agencies stand around the server. More are a grid. */
const MAX_AROUND = 16;
const [RADIUS_X, RADIUS_Y, HUB, ARC] = [150, 104, 46, 54];
const LEVELS = { sending: 'info', silent: 'warn', late: 'warn', finished: 'ok', told: 'check' };
const EVENT_LEVELS = { finished: 'ok', drawn: 'ok', 'winners-told': 'check', 'disk-has-room': 'ok', broken: 'warn', refused: 'warn', 'draw-failed': 'bad', 'disk-full': 'bad' };
const COLUMNS = ['agency', 'bets', 'rate', 'batches', 'last'];
const RULES = ['disk-full', 'draw-failed', 'more-than-expected', 'silent'];

const link = (name) => `#${AGENCY}=${encodeURIComponent(name)}`;
const further = ({ more }) => (more?.sending ?? 0) + (more?.finished ?? 0);

export function verdict(frame, { say, formats }) {
	const { verdict: { code }, draw, finished, expected, known } = frame;
	const values = { finished, expected, missing: expected - finished, sending: known - finished, count: draw?.winners, winners: formats.int(draw?.winners) };
	const time = draw?.time ? say('draw.at', { time: formats.clock(draw.time) }) : say('draw.earlier');
	return { text: say(`verdict.${code}`, values), advice: say(`advice.${code}`, { ...values, time }) };
}

/** What the charts are continued with: what happened from one frame to a later one. */
export function sample(frame, earlier) {
	const { counts, bets, finished, connections, round_p50_us, round_p99_us, sync_p50_us, sync_p99_us } = frame;
	const series = { in_file: bets, finished, connections, round_p50_us, round_p99_us, sync_p50_us, sync_p99_us };
	return { series: { ...series, bets: counts.bets - earlier.counts.bets }, nodes: new Map() };
}

export function mount(root, shell) {
	document.head.append(el('link', { rel: 'stylesheet', href: '/lottery.css' }));
	const view = new LotteryView(root, shell);
	return (frame) => view.show(frame);
}

class LotteryView {
	constructor(root, shell) {
		const { say } = shell;
		this.shell = shell;
		this.events = shell.log('events', EVENTS_KEPT);
		this.drum = new Drum(say);
		this.grid = el('ul', { class: 'grid' });
		this.rest = el('p');
		this.way = scroller('div', say('card.draw'), this.grid, this.rest);
		this.table = new AgencyTable(shell);
		this.charts = new LotteryCharts(shell);
		const lists = [['events', 'ol'], ['counts', 'ul'], ['checks', 'ul']].map(([name, tag]) => {
			const title = say(`card.${name}`);
			return card(title, `${name}-card`, scroller(tag, title));
		});
		[this.timeline, this.counts, this.checks] = lists.map((list) => list.lastElementChild);
		root.replaceChildren(
			card(say('card.draw'), 'star-card', this.drum.element, this.way),
			el('div', { class: 'overview' }, this.table.element, this.charts.element),
			el('div', { class: 'lists' }, ...lists),
		);
	}

	show(frame) {
		const { shell } = this;
		const { say, formats } = shell;
		const agencies = this.agenciesOf(frame);
		const isMany = agencies.length > MAX_AROUND || further(frame) > 0;
		this.drum.show(frame, isMany ? [] : agencies, formats);
		this.way.hidden = !isMany;
		keyed(this.grid, isMany ? agencies : [], ({ key }) => el('li', {}, el('a', { href: link(key) }, shape('wait'), el('b', {}, key), el('small'))), (item, agency) => {
			const [picture, , word] = item.firstElementChild.children;
			reshape(picture, agency.level);
			text(word, agency.word);
		});
		text(this.rest, further(frame) > 0 ? say('more', { sending: formats.int(frame.more.sending), finished: formats.int(frame.more.finished) }) : '');
		this.table.show(agencies);
		this.charts.show(frame, this.rate(frame));
		showTimeline(this.timeline, this.events.at(frame), shell, (entry) => this.describe(entry));
		this.showCounts(frame);
		showChecks(this.checks, this.checksOf(frame));
	}

	/** Bets that are stored in a second. */
	rate(frame) {
		const { recorder } = this.shell;
		const base = recorder.earlier(frame, RATE_SECONDS);
		return base ? (frame.counts.bets - base.counts.bets) / recorder.seconds(base, frame) : undefined;
	}

	agenciesOf(frame) {
		const { say, recorder, selected } = this.shell;
		const base = recorder.earlier(frame, RATE_SECONDS);
		const before = new Map(base?.agencies.map(({ name, bets }) => [name, bets]));
		const silent = new Set(frame.warnings.filter(({ rule }) => rule === 'silent').map(({ agency }) => agency));
		const agencies = frame.agencies.map((agency) => {
			const { name, state, bets } = agency;
			// Who was not listed then may have sent its bets long before.
			const rate = before.has(name) ? (bets - before.get(name)) / recorder.seconds(base, frame) : undefined;
			const isSelected = selected?.key === AGENCY && selected.value === name;
			const shown = silent.has(name) ? 'silent' : frame.draw && state === 'sending' ? 'late' : state;
			return { ...agency, key: name, rate, isSelected, level: LEVELS[shown], word: say(`state.${shown}`) };
		});
		const order = new Intl.Collator('es', { numeric: true });
		return agencies.sort((one, other) => order.compare(one.key, other.key));
	}

	describe({ agency, what, cause, count }) {
		const { say, formats } = this.shell;
		const said = say(`event.${what}`, { count, winners: formats.int(count) }) + (cause ? `: ${say(`cause.${cause}`)}` : '');
		const subject = agency === undefined ? say(what === 'refused' ? 'somebody' : 'server') : el('a', { href: link(agency) }, say('agency', { name: agency }));
		return { level: EVENT_LEVELS[what] ?? 'info', subject, said };
	}

	showCounts({ counts, bets, connections }) {
		const { say, formats } = this.shell;
		const values = { 'in-file': bets, connections, ...counts };
		const items = Object.entries(values).map(([key, value]) => ({ key, value }));
		keyed(this.counts, items, ({ key }) => el('li', {}, say(`count.${key}`), el('b')), (item, { value }) => text(item.lastElementChild, formats.int(value)));
	}

	checksOf({ warnings, expected }) {
		const { say, formats } = this.shell;
		return RULES.flatMap((rule) => {
			const found = warnings.filter((warning) => warning.rule === rule);
			if (found.length === 0) return [{ key: rule, isGood: true, said: say(`good.${rule}`) }];
			return found.map(({ agency, value }) => ({ key: `${rule} ${agency}`, isGood: false, said: say(`warning.${rule}`, { agency, expected, value, time: formats.duration(value) }) }));
		}).sort((one, other) => one.isGood - other.isGood);
	}
}

/** The server in the middle, around it how many agencies have finished, and agencies farther out. */
class Drum {
	constructor(say) {
		this.say = say;
		this.flows = svg('g');
		this.agencies = svg('g');
		this.arc = svg('circle', { class: 'arc', r: ARC, pathLength: 100, transform: 'rotate(-90)' });
		[this.count, this.unit] = [-2, 17].map((y) => svg('text', { y, class: y < 0 ? 'much' : 'word' }));
		const hub = svg('g', { class: 'hub' }, svg('circle', { r: HUB }), this.count, this.unit);
		this.picture = svg('svg', { role: 'group' }, this.flows, svg('circle', { class: 'way', r: ARC }), this.arc, hub, this.agencies);
		this.element = el('div', { class: 'star drum' }, this.picture);
	}

	show({ finished, expected, draw, verdict: { level } }, agencies, formats) {
		const { say } = this;
		attribute(this.arc, 'stroke-dasharray', `${Math.min(100, (100 * finished) / expected).toFixed(1)} 100`);
		attribute(this.arc, 'class', `arc ${level}`);
		text(this.count, draw ? formats.int(draw.winners) : `${formats.int(finished)} / ${formats.int(expected)}`);
		text(this.unit, say(draw ? 'drum.winners' : 'drum.finished', { count: draw?.winners }));
		attribute(this.picture, 'viewBox', agencies.length > 0 ? '-210 -160 420 306' : '-66 -66 132 132');
		attribute(this.picture, 'aria-label', `${this.count.textContent} ${this.unit.textContent}`);
		const most = Math.max(1, ...agencies.map(({ rate }) => rate ?? 0));
		const placed = agencies.map((agency, index) => {
			const angle = (2 * Math.PI * index) / agencies.length;
			return { ...agency, x: Math.round(RADIUS_X * Math.sin(angle)), y: -Math.round(RADIUS_Y * Math.cos(angle)) };
		});
		keyed(this.flows, placed, () => svg('path', { class: 'flow' }), (line, { x, y, rate }) => {
			attribute(line, 'd', `M${x} ${y}L0 0`);
			attribute(line, 'stroke-width', rate > 0 && (2 + (8 * rate) / most).toFixed(1));
		});
		keyed(this.agencies, placed, ({ key }) => this.make(key), (group, { x, y, level, word, rate, isSelected }) => {
			attribute(group, 'transform', `translate(${x} ${y})`);
			attribute(group, 'class', `node ${level}`);
			attribute(group, 'data-selected', isSelected);
			const [, picture, label, below] = group.children;
			attribute(picture, 'd', outline(level));
			// Nothing stands on the line to the middle.
			attribute(label, 'y', y < 0 ? -37 : -21);
			attribute(below, 'y', y < 0 ? -21 : 32);
			text(below, rate > 0 ? formats.rate(rate) : word);
		});
	}

	make(key) {
		return svg('a', { href: link(key) },
			svg('circle', { class: 'halo', r: 17 }),
			svg('path', { 'fill-rule': 'evenodd', transform: 'translate(-10 -10) scale(1.25)' }),
			svg('text', { class: 'label' }, key.length > 12 ? `${key.slice(0, 11)}…` : key),
			svg('text', { class: 'word' }));
	}
}

class AgencyTable {
	constructor(shell) {
		const { say } = shell;
		this.shell = shell;
		this.names = COLUMNS.map((name) => say(`column.${name}`));
		this.rows = el('div', { role: 'rowgroup' });
		this.nothing = el('p', { class: 'note' }, say('nobody'));
		const title = say('card.agencies');
		const head = el('div', { role: 'rowgroup' }, el('div', { class: 'row head', role: 'row' }, ...this.names.map((name) => el('span', { role: 'columnheader' }, name))));
		this.element = card(title, 'nodes-card', scroller('div', title, el('div', { role: 'table', 'aria-label': title }, head, this.rows), this.nothing));
	}

	show(agencies) {
		this.nothing.hidden = agencies.length > 0;
		keyed(this.rows, agencies, (agency) => this.make(agency), (row, agency) => this.fill(row, agency));
	}

	make({ key }) {
		const cells = this.names.map((name) => el('span', { role: 'cell', 'data-label': name }));
		cells[0].append(shape('wait'), el('a', { href: link(key) }, key), el('small'));
		return el('div', { class: 'row', role: 'row', 'data-agency': key }, ...cells);
	}

	fill(row, { level, word, bets, rate, batches, age_ms, isSelected }) {
		const { formats } = this.shell;
		const [name, ...figures] = row.children;
		const isNew = isSelected && !row.hasAttribute('data-selected');
		attribute(row, 'data-level', level === 'check' ? 'ok' : level);
		attribute(row, 'data-selected', isSelected);
		reshape(name.firstElementChild, level);
		text(name.lastElementChild, word);
		const values = [formats.int(bets), formats.rate(rate), formats.int(batches), age_ms === undefined ? '–' : formats.ago(age_ms / 1000)];
		figures.forEach((cell, index) => text(cell, values[index]));
		if (isNew) row.scrollIntoView({ block: 'nearest' });
	}
}

class LotteryCharts {
	constructor(shell) {
		const { say, formats } = shell;
		this.shell = shell;
		const quantiles = ['p50', 'p99'];
		this.bets = new Chart(say('chart.bets'), [], formats.rate, say);
		this.round = new Chart(say('chart.round'), quantiles, formats.micros, say);
		this.sync = new Chart('fdatasync', quantiles, formats.micros, say);
		this.file = new Chart(say('chart.file'), [], formats.int, say);
		const charts = [this.bets, this.round, this.sync, this.file].map(({ element }) => element);
		this.element = card(say('card.charts'), 'charts-card', el('div', { class: 'charts' }, ...charts));
	}

	show(frame, rate) {
		const { formats, history } = this.shell;
		this.bets.show([history.perSecond('bets')], formats.rate(rate));
		for (const name of ['round', 'sync']) {
			const both = ['p50', 'p99'].map((part) => `${name}_${part}_us`);
			this[name].show(both.map((one) => history.series(one)), both.map((one) => formats.micros(frame[one])).join(' · '));
		}
		this.file.show([history.series('in_file')], formats.int(frame.bets));
	}
}
