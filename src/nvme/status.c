/* SPDX-License-Identifier: BSD-3-Clause */
/* NVMe status codes as errno values and as words, and which of them are worth another try. */
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

/* --- as words --- */

static const struct {
	uint16_t code;
	const char *text;
} words[] =
        {
                {NVME_SC_SUCCESS, "success"},
                {NVME_SC_INVALID_OPCODE, "it does not know this command"},
                {NVME_SC_INVALID_FIELD, "a field of the command is invalid"},
                {NVME_SC_CID_CONFLICT, "two commands have the same number"},
                {NVME_SC_DATA_TRANSFER, "data could not be transferred"},
                {NVME_SC_POWER_LOSS, "aborted: it loses power"},
                {NVME_SC_INTERNAL, "an internal error"},
                {NVME_SC_ABORTED, "aborted"},
                {NVME_SC_ABORTED_SQ_DELETED, "aborted: its queue was deleted"},
                {NVME_SC_ABORTED_FUSED, "aborted: the fused command failed"},
                {NVME_SC_ABORTED_NOT_FUSED, "aborted: the fused command is missing"},
                {NVME_SC_INVALID_NS, "there is no such namespace, or no such format"},
                {NVME_SC_SEQUENCE, "it comes out of sequence"},
                {NVME_SC_DENIED, "denied"},
                {NVME_SC_KEEP_ALIVE_EXPIRED, "its keep-alive time ran out"},
                {NVME_SC_SANITIZE_FAILED, "a sanitize operation failed"},
                {NVME_SC_SANITIZING, "a sanitize operation is under way"},
                {NVME_SC_NS_PROTECTED, "the namespace is write-protected"},
                {NVME_SC_INTERRUPTED, "interrupted"},
                {NVME_SC_TRANSPORT_TRANSIENT, "a transport's error that may pass"},
                {NVME_SC_LOCKDOWN, "prohibited by lockdown"},
                {NVME_SC_MEDIA_NOT_READY, "the media are not ready"},
                {NVME_SC_LBA_RANGE, "beyond the end of the namespace"},
                {NVME_SC_CAPACITY, "the namespace is full"},
                {NVME_SC_NS_NOT_READY, "the namespace is not ready"},
                {NVME_SC_RESERVATION, "another host has reserved it"},
                {NVME_SC_FORMATTING, "the namespace is being formatted"},
                {NVME_SC_CQ_INVALID, "there is no such completion queue"},
                {NVME_SC_QID_INVALID, "the number of a queue is invalid"},
                {NVME_SC_QUEUE_SIZE, "the size of a queue is invalid"},
                {NVME_SC_ABORT_LIMIT, "too many aborts"},
                {NVME_SC_ASYNC_LIMIT, "too many requests for events"},
                {NVME_SC_VECTOR_INVALID, "there is no such interrupt vector"},
                {NVME_SC_LOG_INVALID, "it has no such log page"},
                {NVME_SC_FORMAT_INVALID, "it has no such format"},
                {NVME_SC_FEATURE_NOT_SAVEABLE, "the feature can't be saved"},
                {NVME_SC_FEATURE_NOT_CHANGEABLE, "the feature can't be changed"},
                {NVME_SC_FEATURE_NOT_NS, "the feature is none of a namespace"},
                {NVME_SC_NS_NOT_ATTACHED, "the namespace is not attached"},
                {NVME_SC_WRITE_FAULT, "the data could not be written"},
                {NVME_SC_READ_ERROR, "the data could not be read"},
                {NVME_SC_COMPARE, "the data differ"},
                {NVME_SC_ACCESS_DENIED, "access to the data is denied"},
                {NVME_SC_PATH_INTERNAL, "the path has an internal error"},
                {NVME_SC_ANA_PERSISTENT_LOSS, "this way to the namespace is lost for good (ANA)"},
                {NVME_SC_ANA_INACCESSIBLE, "the namespace is inaccessible this way (ANA)"},
                {NVME_SC_ANA_CHANGE, "this way to the namespace is about to change (ANA)"},
                {NVME_SC_PATH_HOST, "the path failed"},
                {NVME_SC_PATH_ABORTED, "aborted by the host"},
},
  words_fabrics[] = {
          {NVME_SC_CONNECT_FORMAT, "it does not understand this form of Connect"},
          {NVME_SC_CONNECT_BUSY, "it takes no further host now"},
          {NVME_SC_CONNECT_PARAM,
           "a parameter of Connect is invalid: is there a subsystem of this NQN?"},
          {NVME_SC_CONNECT_RESTART, "discovery has to be asked again"},
          {NVME_SC_CONNECT_HOST, "it does not let in a host of this NQN"},
          {NVME_SC_QUEUE_TYPE, "not on a queue of this type"},
          {NVME_SC_AUTH_REQUIRED, "it demands authentication"},
};

const char *nvme_status_text(uint16_t status, bool fabrics)
{
	const uint16_t code = NVME_STATUS_CODE(status);

	for (size_t i = 0; fabrics && i < ARRAY_LEN(words_fabrics); i++)
		if (words_fabrics[i].code == code)
			return words_fabrics[i].text;
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (words[i].code == code)
			return words[i].text;
	return NVME_STATUS_SCT(status) == NVME_SCT_VENDOR ? "what its vendor defines"
	                                                  : "unknown to us";
}
