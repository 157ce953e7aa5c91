/* SPDX-License-Identifier: BSD-3-Clause */
/* NVMe status codes as errno values, and which of them are worth another try. */
#include "nvme/host.h"

static int generic_errno(unsigned code)
{
	switch (code) {
	case NVME_SC_SUCCESS:
		return 0;
	case NVME_SC_INVALID_OPCODE:
		return -ENOTSUP;
	case NVME_SC_INVALID_NS:
		return -ENOENT;
	case NVME_SC_ABORTED:
		return -ETIMEDOUT; /* the host aborts what takes too long, and nothing else */
	case NVME_SC_CAPACITY:
		return -ENOSPC;
	case NVME_SC_NS_PROTECTED:
		return -EROFS;
	case NVME_SC_DENIED:
	case NVME_SC_LOCKDOWN:
	case NVME_SC_RESERVATION:
		return -EACCES;
	case NVME_SC_ABORTED_SQ_DELETED:
	case NVME_SC_INTERRUPTED:
	case NVME_SC_TRANSPORT_TRANSIENT:
	case NVME_SC_NS_NOT_READY:
	case NVME_SC_MEDIA_NOT_READY:
		return -EAGAIN;
	case NVME_SC_FORMATTING:
	case NVME_SC_SANITIZING:
		return -EBUSY;
	case NVME_SC_DATA_TRANSFER:
	case NVME_SC_POWER_LOSS:
	case NVME_SC_INTERNAL:
	case NVME_SC_ABORTED_FUSED:
	case NVME_SC_ABORTED_NOT_FUSED:
		return -EIO;
	default:
		return -EINVAL;
	}
}

static int specific_errno(unsigned code)
{
	switch (code) {
	case NVME_SC_ABORT_LIMIT:
	case NVME_SC_ASYNC_LIMIT:
		return -EBUSY;
	case NVME_SC_NS_CAPACITY:
		return -ENOSPC;
	case NVME_SC_READ_ONLY_RANGE:
		return -EROFS;
	default:
		return -EINVAL;
	}
}

int nvme_status_errno(uint16_t status)
{
	unsigned code = NVME_STATUS_CODE(status);

	switch (NVME_STATUS_SCT(status)) {
	case NVME_SCT_GENERIC:
		return generic_errno(code);
	case NVME_SCT_SPECIFIC:
		return specific_errno(code);
	case NVME_SCT_MEDIA:
		if (code == NVME_SC_COMPARE)
			return -EILSEQ;
		return code == NVME_SC_ACCESS_DENIED ? -EACCES : -EIO;
	case NVME_SCT_PATH:
		if (code == NVME_SC_PATH_HOST || code == NVME_SC_ANA_PERSISTENT_LOSS)
			return -ENODEV;
		return -EAGAIN;
	default:
		return -EIO;
	}
}

bool nvme_status_retry(uint16_t status)
{
	int rc = nvme_status_errno(status);

	if (status & NVME_STATUS_DNR)
		return false;
	return rc == -EAGAIN || rc == -ETIMEDOUT || rc == -EIO;
}

int pst_nvme_errno(uint16_t status)
{
	return nvme_status_errno(status);
}
