/* SPDX-License-Identifier: BSD-3-Clause */
/* perf_report - what a measurement found, in words and as JSON. */
#include <inttypes.h>
#include <jansson.h>

#include "cli/perf.h"

static double us(uint64_t ns)
{
	return (double)ns / 1e3;
}

static json_t *lat_json(const struct hist *h)
{
	json_t *buckets = json_array();

	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		if (h->bucket[i])
			json_array_append_new(buckets,
			                      json_pack("[I, I]", (json_int_t)hist_bucket_top(i),
			                                (json_int_t)h->bucket[i]));
	return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "count",
	                 (json_int_t)h->count, "min", h->count ? us(h->min) : 0.0, "mean",
	                 hist_mean(h) / 1e3, "p50", us(hist_percentile(h, 0.5)), "p90",
	                 us(hist_percentile(h, 0.9)), "p99", us(hist_percentile(h, 0.99)), "p999",
	                 us(hist_percentile(h, 0.999)), "p9999", us(hist_percentile(h, 0.9999)),
	                 "max", us(h->max), "histogram_ns", buckets);
}

/* What all threads did together. */
struct totals {
	struct hist reads, writes;
	double seconds;
	uint64_t ios, errors, verified, prepared_bytes, checked_bytes, verify_errors, resets;
};

static void sum(const struct perf_all *all, struct totals *t)
{
	memset(t, 0, sizeof(*t));
	hist_init(&t->reads);
	hist_init(&t->writes);
	for (unsigned k = 0; k < all->threads; k++) {
		const struct perf *perf = &all->perf[k];

		for (unsigned n = 0; n < all->dev_count; n++)
			for (unsigned i = 0; i < perf->p.queues; i++) {
				hist_merge(&t->reads, &perf->devs[n].queues[i].read_lat);
				hist_merge(&t->writes, &perf->devs[n].queues[i].write_lat);
			}
		t->seconds = MAX(t->seconds, perf->seconds);
		t->errors += perf->errors;
		t->verified += perf->verified;
		t->prepared_bytes += perf->prepared_bytes;
		t->checked_bytes += perf->checked_bytes;
		t->verify_errors += perf->verify_errors;
		t->resets += perf->resets;
	}
	t->ios = t->reads.count + t->writes.count;
}

static json_t *queue_json(const struct perf *perf, const struct perf_queue *q)
{
	uint64_t ios = q->read_lat.count + q->write_lat.count;
	json_t *o = json_pack("{s:i, s:I, s:f, s:f, s:I}", "queue", (int)q->index + 1, "ios",
	                      (json_int_t)ios, "iops", (double)ios / perf->seconds, "bytes_per_s",
	                      (double)ios * (double)perf->p.iosize / perf->seconds, "retries",
	                      (json_int_t)q->retries);

	if (perf->cpu >= 0)
		json_object_set_new(o, "cpu", json_integer(perf->cpu));
	if (q->read_lat.count)
		json_object_set_new(o, "read_latency_us", lat_json(&q->read_lat));
	if (q->write_lat.count)
		json_object_set_new(o, "write_latency_us", lat_json(&q->write_lat));
	return o;
}

static json_t *device_json(const struct perf_all *all, unsigned n)
{
	json_t *queues = json_array();

	for (unsigned k = 0; k < all->threads; k++)
		for (unsigned i = 0; i < all->perf[k].p.queues; i++)
			json_array_append_new(
			        queues, queue_json(&all->perf[k], &all->perf[k].devs[n].queues[i]));
	return json_pack("{s:s, s:s, s:o}", "device", all->names[n], "path",
	                 all->perf[0].devs[n].is_nvme ? "nvme" : "bdev", "queues", queues);
}

static json_t *to_json(const struct perf_all *all, const struct totals *t)
{
	const struct perf_params *p = &all->perf[0].p;
	double cpu = all->cpu_user_s + all->cpu_sys_s;
	json_t *devices = json_array();
	json_t *o = json_pack("{s:s, s:I, s:I, s:i, s:I, s:I, s:f, s:I, s:f, s:f, s:f, s:f, s:I}",
	                      "rw", p->rw, "iosize_bytes", (json_int_t)p->iosize, "qdepth",
	                      (json_int_t)p->qdepth, "threads", (int)all->threads, "queues",
	                      (json_int_t)p->queues, "batch", (json_int_t)p->batch, "seconds",
	                      t->seconds, "ios", (json_int_t)t->ios, "iops",
	                      (double)t->ios / t->seconds, "bytes_per_s",
	                      (double)t->ios * (double)p->iosize / t->seconds, "cpu_seconds", cpu,
	                      "cpu_us_per_io", t->ios ? cpu * 1e6 / (double)t->ios : 0.0, "errors",
	                      (json_int_t)t->errors);

	json_object_set_new(o, "cut_short", json_boolean(cli_cut_short()));
	json_object_set_new(o, "verified",
	                    json_pack("{s:b, s:I, s:I, s:I, s:I}", "asked", p->verify, "reads",
	                              (json_int_t)t->verified, "prepared_bytes",
	                              (json_int_t)t->prepared_bytes, "read_again_bytes",
	                              (json_int_t)t->checked_bytes, "wrong",
	                              (json_int_t)t->verify_errors));
	if (t->reads.count)
		json_object_set_new(o, "read_latency_us", lat_json(&t->reads));
	if (t->writes.count)
		json_object_set_new(o, "write_latency_us", lat_json(&t->writes));
	for (unsigned n = 0; n < all->dev_count; n++)
		json_array_append_new(devices, device_json(all, n));
	json_object_set_new(o, "devices", devices);
	if (p->reset_ms)
		json_object_set_new(o, "resets", json_integer((json_int_t)t->resets));
	return o;
}

static void print_lat(const char *what, const struct hist *h)
{
	if (h->count)
		printf("%-8s mean %.1f  p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f us\n",
		       what, hist_mean(h) / 1e3, us(hist_percentile(h, 0.5)),
		       us(hist_percentile(h, 0.9)), us(hist_percentile(h, 0.99)),
		       us(hist_percentile(h, 0.999)), us(h->max));
}

/* "<= 16.4 us  1234  12.3 %  ######": a row for each doubling, from the first to the last that has any. */
static void print_hist(const char *what, const struct hist *h)
{
	static const char bar[] = "##################################################";
	unsigned i = hist_bucket(h->min), last = hist_bucket(h->max);

	if (!h->count)
		return;
	printf("%s\n", what);
	while (i <= last) {
		unsigned end = MIN(i | (HIST_SUB - 1), HIST_BUCKETS - 1);
		uint64_t top = hist_bucket_top(end), n = 0;
		double part;

		for (; i <= end; i++)
			n += h->bucket[i];
		part = (double)n / (double)h->count;
		printf("  <= %8.1f us %12" PRIu64 " %6.2f %%  %.*s\n", us(top), n, 100 * part,
		       (int)(part * (double)(sizeof(bar) - 1) + 0.5), bar);
	}
}

static void print_queue(const struct perf *perf, const struct perf_queue *q)
{
	struct hist all = q->read_lat;
	char cpu[16] = "-";

	if (perf->cpu >= 0)
		snprintf(cpu, sizeof(cpu), "%d", perf->cpu);
	hist_merge(&all, &q->write_lat);
	printf("%-32s %4s %5u %12.0f %10.1f %10.1f %10" PRIu64 "\n", q->dev->name, cpu,
	       q->index + 1, (double)all.count / perf->seconds, hist_mean(&all) / 1e3,
	       us(hist_percentile(&all, 0.99)), q->retries);
}

static void print_queues(const struct perf_all *all)
{
	printf("%-32s %4s %5s %12s %10s %10s %10s\n", "device", "cpu", "queue", "IOPS", "mean us",
	       "p99 us", "retries");
	for (unsigned n = 0; n < all->dev_count; n++)
		for (unsigned k = 0; k < all->threads; k++)
			for (unsigned i = 0; i < all->perf[k].p.queues; i++)
				print_queue(&all->perf[k], &all->perf[k].devs[n].queues[i]);
}

static void print_results(const struct perf_all *all, const struct totals *t)
{
	const struct perf_params *p = &all->perf[0].p;
	double cpu = all->cpu_user_s + all->cpu_sys_s;
	char size[32], rate[32], again[32], threads[32] = "";

	if (all->threads > 1)
		snprintf(threads, sizeof(threads), "%u threads, ", all->threads);
	printf("%s %s, %sdepth %" PRIu64 ", %" PRIu64 " queues, batch %" PRIu64 ": %" PRIu64
	       " in %.2f s\n",
	       p->rw, format_size(p->iosize, size, sizeof(size)), threads, p->qdepth, p->queues,
	       p->batch, t->ios, t->seconds);
	printf("rate     %.0f IOPS, %s/s\n", (double)t->ios / t->seconds,
	       format_size((uint64_t)((double)t->ios * (double)p->iosize / t->seconds), rate,
	                   sizeof(rate)));
	print_lat("reads", &t->reads);
	print_lat("writes", &t->writes);
	printf("cpu      %.2f s user, %.2f s system, %.3f us per I/O\n", all->cpu_user_s,
	       all->cpu_sys_s, t->ios ? cpu * 1e6 / (double)t->ios : 0.0);
	if (p->verify)
		printf("verified %" PRIu64 " reads, %s at the end, %" PRIu64 " wrong\n",
		       t->verified, format_size(t->checked_bytes, again, sizeof(again)),
		       t->verify_errors);
	if (p->reset_ms)
		printf("resets   %" PRIu64 "\n", t->resets);
	if (p->histogram) {
		print_hist("reads", &t->reads);
		print_hist("writes", &t->writes);
	}
	if (all->threads * all->dev_count * p->queues > 1)
		print_queues(all);
}

int perf_report(const struct perf_all *all)
{
	struct totals *t = mem_alloc(sizeof(*t));
	int status = CLI_OK;

	if (!t)
		return cli_fail(all->cli, -ENOMEM, "the results");
	sum(all, t);
	if (all->cli->json)
		status = cli_print_json(all->cli, to_json(all, t));
	else
		print_results(all, t);
	mem_free(t);
	return status;
}
