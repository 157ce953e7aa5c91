/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * penstock/penstock.h - all of the public API at once. Each header also stands alone.
 */
#ifndef PENSTOCK_PENSTOCK_H
#define PENSTOCK_PENSTOCK_H

#include "penstock/client.h"
#include "penstock/container.h"
#include "penstock/cq.h"
#include "penstock/error.h"
#include "penstock/file.h"
#include "penstock/kv.h"
#include "penstock/mem.h"
#include "penstock/nvme.h"
#include "penstock/object.h"
#include "penstock/types.h"
#include "penstock/version.h"

#endif
