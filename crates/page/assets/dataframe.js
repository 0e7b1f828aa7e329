// The DataFrame's master: workers, jobs, and the task stream.

import { attribute, card, Chart, el, keyed, reshape, scroller, shape, showChecks, showTimeline, text } from './kit.js';
import { TaskStream } from './dataframe-stream.js';

export { words } from './dataframe-words.js';

/** The name of the link to a worker, in both languages: a link means the same to whom it is sent. */
const WORKER = 'trabajador';
const EVENTS_KEPT = 256;
/** Rates are means over this time. */
const RATE_SECONDS = 3;
/** So many lost workers are named in the verdict. */
const NAMED = 3;
const LEVELS = { ready: 'ok', draining: 'info', lost: 'bad' };
const JOB_LEVELS = { planning: 'info', running: 'info', finishing: 'info', waiting: 'warn', done: 'ok', failed: 'bad' };
const EVENT_LEVELS = { joined: 'ok', back: 'ok', restarted: 'ok', finished: 'ok', gone: 'info', lost: 'bad', 'task-lost': 'warn', failed: 'bad', 'took-lead': 'warn' };
const COLUMNS = ['worker', 'busy', 'memory', 'done', 'median', 'seen'];
const RULES = ['no-workers', 'losses', 'slow', 'spool-full'];

export const workerLink = (name) => `#${WORKER}=${encodeURIComponent(name)}`;

const stateInWords = ({ state, cause }, say) => say(`state.${state}`) + (cause ? `: ${say(`cause.${cause}`)}` : '');

export function verdict(frame, { say }) {
	const { verdict: { code }, ready, draining, lost, running } = frame;
	const away = frame.workers.filter(({ state }) => state === 'lost');
	const names = away.slice(0, NAMED).map((worker) => `${worker.name} (${say(`cause.${worker.cause}`)})`);
	if (lost > names.length) names.push(say('more', { count: lost - names.length }));
	const jobs = running > 0 ? say('jobs', { running }) : say('no-jobs');
	const values = { ready, known: ready + draining + lost, lost, jobs, names: names.join('; ') };
	return { text: say(`verdict.${code}`, values), advice: say(`advice.${code}`, values) };
}

/** What the charts are continued with: what happened from one frame to a later one. */
export function sample(frame, earlier) {
	const before = new Map(earlier.workers.map((worker) => [worker.name, worker]));
	const { busy, waiting, ready, resident } = frame;
	const workers = frame.workers.map(({ name, done, ...worker }) => [name, { tasks: done - (before.get(name)?.done ?? done), busy: worker.busy, resident: worker.resident }]);
	const series = { tasks: frame.tasks_done - earlier.tasks_done, lost: frame.tasks_lost - earlier.tasks_lost, busy, waiting, ready, resident };
	return { series, nodes: new Map(workers) };
}

export function mount(root, shell) {
	document.head.append(el('link', { rel: 'stylesheet', href: '/dataframe.css' }));
	const view = new DataFrameView(root, shell);
	return (frame) => view.show(frame);
}

class DataFrameView {
	constructor(root, shell) {
		const { say } = shell;
		this.shell = shell;
		this.events = shell.log('events', EVENTS_KEPT);
		this.stream = new TaskStream(shell, workerLink);
		this.table = new WorkerTable(shell);
		this.charts = new WorkerCharts(shell);
		const lists = [['jobs', 'ol'], ['events', 'ol'], ['checks', 'ul']].map(([name, tag]) => {
			const title = say(`card.${name}`);
			return card(title, `${name}-card`, scroller(tag, title));
		});
		[this.jobs, this.timeline, this.checks] = lists.map((list) => list.lastElementChild);
		root.replaceChildren(
			this.stream.element,
			el('div', { class: 'overview' }, this.table.element, this.charts.element),
			el('div', { class: 'lists' }, ...lists),
		);
	}

	show(frame) {
		const { shell } = this;
		const selected = shell.selected?.key === WORKER ? shell.selected.value : null;
		const order = new Intl.Collator('es', { numeric: true });
		const workers = frame.workers.map((worker) => ({
			...worker, key: worker.name, isSelected: worker.name === selected,
			level: LEVELS[worker.state] ?? 'wait', words: stateInWords(worker, shell.say),
		}));
		if (!frame.more_workers) workers.sort((one, other) => order.compare(one.key, other.key));
		this.stream.show(frame, workers);
		this.table.show(workers, frame.more_workers ?? 0);
		this.charts.show(frame, workers.find(({ isSelected }) => isSelected));
		this.showJobs(frame);
		showTimeline(this.timeline, this.events.at(frame), shell, (entry) => this.describe(entry));
		showChecks(this.checks, this.checksOf(frame));
	}

	showJobs({ jobs, more_jobs: more }) {
		const { say, formats } = this.shell;
		const rows = jobs.map((job) => ({ ...job, key: job.j }));
		if (more) rows.push({ key: 'more', note: say('more', { count: formats.int(more) }) });
		if (rows.length === 0) rows.push({ key: 'none', note: say('never-jobs') });
		const make = ({ note }) => (note ? el('li', { class: 'note' }) : el('li', { class: 'job' }, shape('wait'), el('b'), el('progress'), el('small')));
		keyed(this.jobs, rows, make, (row, job) => (job.note ? text(row, job.note) : this.fillJob(row, job)));
	}

	fillJob(row, { j, ops, more_ops: more, state, cause, stage, stages, lost, rows, ms }) {
		const { say, formats } = this.shell;
		const [picture, name, bar, said] = row.children;
		const [done, all] = stages.at(-1) ?? [0, 0];
		const isOver = state === 'done' || state === 'failed';
		attribute(row, 'data-level', JOB_LEVELS[state]);
		reshape(picture, JOB_LEVELS[state]);
		text(name, `${j} · ${ops.join(' → ')}${more ? ' …' : ''}`);
		attribute(bar, 'max', all || 1);
		attribute(bar, 'value', stage === 0 && !isOver ? null : state === 'done' ? all || 1 : done);
		attribute(bar, 'aria-label', say('progress', { j }));
		const parts = [say(`job.${state}`) + (cause ? `: ${say(`cause.${cause}`)}` : '')];
		if (stage > 0) parts.push(say('stage', { stage, done: formats.int(done), all: formats.int(all) }));
		if (rows !== undefined) parts.push(say('rows', { count: rows, rows: formats.int(rows) }));
		if (lost) parts.push(say('lost-tasks', { count: lost }));
		text(said, [...parts, formats.micros(ms * 1000)].join(' · '));
	}

	describe({ worker, job, what, cause, count }) {
		const { say, formats } = this.shell;
		let said = say(`event.${what}`, { rows: formats.int(count), count });
		if (cause) said += `: ${say(`cause.${cause}`)}`;
		if (what === 'lost' && count > 0) said += `; ${say('had', { count })}`;
		if (worker !== undefined && job !== undefined) said += ` (${say('job', { job })})`;
		const subject = worker !== undefined ? el('a', { href: workerLink(worker) }, worker) : say(job === undefined ? 'master' : 'job', { job });
		return { level: EVENT_LEVELS[what] ?? 'info', subject, said };
	}

	checksOf({ warnings }) {
		const { say, formats } = this.shell;
		const checks = RULES.flatMap((rule) => {
			const found = warnings.filter((warning) => warning.rule === rule);
			if (found.length === 0) return [{ key: rule, isGood: true, said: say(`good.${rule}`) }];
			return found.map(({ worker, value }) => {
				const values = { worker, value: formats.int(value), bytes: formats.bytes(value) };
				return { key: `${rule} ${worker}`, isGood: false, said: say(`warning.${rule}`, values) };
			});
		});
		return checks.sort((one, other) => one.isGood - other.isGood);
	}
}

/** A row for each worker. Its elements have the roles of a table, because on a narrow page its style is not one. */
class WorkerTable {
	constructor(shell) {
		const { say } = shell;
		this.shell = shell;
		this.columns = COLUMNS.map((name) => say(`column.${name}`));
		this.rows = el('div', { role: 'rowgroup' });
		this.rest = el('p');
		const heads = this.columns.map((name) => el('span', { role: 'columnheader' }, name));
		const head = el('div', { role: 'rowgroup' }, el('div', { class: 'row head', role: 'row' }, ...heads));
		const title = say('card.workers');
		this.element = card(title, 'nodes-card', scroller('div', title, el('div', { role: 'table', 'aria-label': title }, head, this.rows), this.rest));
	}

	show(workers, more) {
		const { say, formats } = this.shell;
		keyed(this.rows, workers, (worker) => this.make(worker), (row, worker) => this.fill(row, worker));
		text(this.rest, more > 0 ? say('more', { count: formats.int(more) }) : '');
	}

	make({ key }) {
		const cells = this.columns.map((name) => el('span', { role: 'cell', 'data-label': name }));
		cells[0].append(shape('wait'), el('a', { href: workerLink(key) }, key), el('small'));
		return el('div', { class: 'row', role: 'row', 'data-node': key }, ...cells);
	}

	fill(row, { level, words, isSelected, busy, threads, resident, done, lost, p50_us, age_ms }) {
		const { say, formats } = this.shell;
		const [name, ...figures] = row.children;
		attribute(row, 'data-level', level);
		attribute(row, 'data-selected', isSelected);
		reshape(name.firstElementChild, level);
		text(name.lastElementChild, words + (lost ? ` · ${say('lost-tasks', { count: lost })}` : ''));
		const values = [`${formats.int(busy)} / ${formats.int(threads)}`, formats.bytes(resident), formats.int(done), formats.micros(p50_us), formats.ago(Math.round(age_ms / 1000))];
		figures.forEach((cell, index) => text(cell, values[index]));
	}
}

/** Ten minutes of the cluster, or of the worker that a link has selected. */
class WorkerCharts {
	constructor(shell) {
		const { say, formats } = shell;
		this.shell = shell;
		const formatOf = { tasks: formats.rate, busy: formats.int, resident: formats.bytes };
		this.charts = Object.entries(formatOf).map(([name, format]) => [name, format, new Chart(say(`chart.${name}`), [], format, say)]);
		this.heading = el('small');
		const back = el('button', { type: 'button', onclick: () => shell.deselect() }, say('back'));
		this.back = back;
		this.element = card(say('card.charts'), 'charts-card', el('div', { class: 'whose' }, this.heading, back), el('div', { class: 'charts' }, ...this.charts.map(([, , chart]) => chart.element)));
	}

	show(frame, worker) {
		const { say, formats, history, recorder } = this.shell;
		const base = recorder.earlier(frame, RATE_SECONDS);
		const doneOf = (at) => (worker ? at.workers.find(({ name }) => name === worker.name)?.done : at.tasks_done);
		const now = { ...(worker ?? frame), tasks: base ? Math.max(0, (doneOf(frame) - (doneOf(base) ?? doneOf(frame))) / recorder.seconds(base, frame)) : undefined };
		this.back.parentElement.hidden = !worker;
		text(this.heading, worker?.name ?? '');
		for (const [name, format, chart] of this.charts) {
			const series = name === 'tasks' ? history.perSecond(name, worker?.name) : history.series(name, worker?.name);
			const value = name === 'busy' ? `${formats.int(now.busy)} / ${formats.int(worker?.threads ?? frame.slots)}` : format(now[name]);
			chart.show([series], name === 'busy' && frame.waiting > 0 && !worker ? `${value} · ${say('waiting', { count: frame.waiting })}` : value);
		}
	}
}
