/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_metrics.h - how a metric of /metrics is written; between api_metrics.c and api_metrics_vm.c.
 *
 * A metric_ function writes the samples of one metric, each as
 *
 *     sample_label(s, "vm", name);     // any number of labels, in order
 *     sample_put(s, value);            // ends the sample */
#ifndef GODWIT_KERNEL_MANAGE_API_METRICS_H
#define GODWIT_KERNEL_MANAGE_API_METRICS_H

#include "kernel/lib/text.h"

struct sampler {
    struct text *t;
    const char *name;   /* of the metric */
    const char *suffix; /* of the present sample, "" or that of a histogram; "" again after it */
    bool labelled;      /* the present sample has a label */
};
struct metric {
    const char *name, *kind, *help; /* kind: counter, gauge or histogram */
    void (*samples)(struct sampler *s);
};

/** Add a label; value is any text, and escaped. */
void sample_label(struct sampler *s, const char *key, const char *value);
void sample_label_num(struct sampler *s, const char *key, uint64_t value);
/** End the sample with a number, or with a time in seconds. */
void sample_put(struct sampler *s, uint64_t value);
void sample_put_us(struct sampler *s, uint64_t us);

/* The metrics of guests: api_metrics_vm.c. */
extern const struct metric vm_metrics[];
extern const unsigned n_vm_metrics;

#endif
